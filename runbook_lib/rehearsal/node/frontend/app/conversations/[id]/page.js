import Thread from "./thread";

export default async function Page({ params }) {
  const { id } = await params;
  return <Thread id={id} />;
}
