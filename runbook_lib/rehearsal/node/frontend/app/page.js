"use client";

import { Failed, useLoaded } from "./load";

export default function Conversations() {
  const { loaded, error } = useLoaded("/api/messaging/conversations");
  if (error) return <Failed error={error} />;
  return loaded?.conversations.map(({ id, title }) => (
    <a key={id} className="conversation" href={`/conversations/${id}`}>{title}</a>
  ));
}
