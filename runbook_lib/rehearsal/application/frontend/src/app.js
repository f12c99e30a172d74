const thread = document.querySelector("#thread");

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function pictures(message) {
  return message.mediaUrl ? [message.mediaUrl] : [];
}

function media(message) {
  return pictures(message).map((url) => element("img", { src: url, alt: `Picture of message ${message.id}` }));
}

function article(message) {
  const made = element("article", { className: "message" });
  made.dataset.messageId = message.id;
  made.append(element("p", { textContent: message.content }), ...media(message));
  return made;
}

async function load(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  return response.json();
}

async function showConversation(id) {
  document.querySelector("#place").textContent = `Conversation ${id}`;
  const { messages } = await load(`/api/messaging/conversations/${id}/messages`);
  thread.append(...messages.map(article));
  await Promise.allSettled([...document.images].map((image) => image.decode()));
}

async function showList() {
  const { conversations } = await load("/api/messaging/conversations");
  thread.append(...conversations.map(({ id, title }) =>
    element("a", { className: "conversation", href: `/conversations/${id}`, textContent: title })));
}

try {
  const [, id] = location.pathname.match(/^\/conversations\/(\d+)$/) ?? [];
  await (id ? showConversation(id) : showList());
  document.body.dataset.ready = "true";
} catch (error) {
  thread.append(element("p", { className: "error", textContent: `Messages could not be loaded: ${error.message}.` }));
  document.body.dataset.ready = "error";
}
