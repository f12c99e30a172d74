export const dynamic = "force-dynamic";

export function GET() {
  return Response.json({ version: process.env.VERSION }, { headers: { "Cache-Control": "no-cache" } });
}
