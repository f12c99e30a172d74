// The backend's API, with the token that no browser may hold.
async function forwarded(request) {
  const { pathname, search } = new URL(request.url);
  const type = request.headers.get("Content-Type");
  try {
    const answer = await fetch(`${process.env.BACKEND_URL}${pathname}${search}`, {
      method: request.method,
      headers: { Authorization: `Bearer ${process.env.API_TOKEN}`, ...(type ? { "Content-Type": type } : {}) },
      body: request.method === "GET" ? undefined : await request.text(),
      cache: "no-store",
    });
    const headers = { "Content-Type": answer.headers.get("Content-Type") ?? "application/json" };
    return new Response(await answer.text(), { status: answer.status, headers });
  } catch {
    return Response.json({ error: "backend unavailable" }, { status: 502 });
  }
}

export { forwarded as GET, forwarded as POST };
