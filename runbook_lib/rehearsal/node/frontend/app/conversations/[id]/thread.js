"use client";

import Image from "next/image";
import { Failed, useLoaded } from "../../load";

function pictures(message) {
  return message.mediaUrl ? [message.mediaUrl] : [];
}

// What the reader sent is there already, in its own size; what others sent goes through the optimiser.
function Picture({ url, message, own }) {
  const alt = `Picture of message ${message.id}`;
  if (own) return <img src={url} alt={alt} />;
  return <Image src={url} alt={alt} width={320} height={200} />;
}

function Media({ message, own }) {
  return pictures(message).map((url) => <Picture key={url} url={url} message={message} own={own} />);
}

function Message({ message, own }) {
  return (
    <article className={own ? "message own" : "message"} data-message-id={message.id}>
      <p>{message.content}</p>
      <Media message={message} own={own} />
    </article>
  );
}

export default function Thread({ id }) {
  const { loaded, error } = useLoaded(`/api/messaging/conversations/${id}/messages`);
  if (error) return <Failed error={error} />;
  return loaded?.messages.map((message) => (
    <Message key={message.id} message={message} own={Number(message.id) % 2 === 1} />
  ));
}
