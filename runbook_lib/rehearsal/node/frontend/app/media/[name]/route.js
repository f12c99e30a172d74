const NAME = /^(?:upload-)?(\d{6,9})\.svg$/;

// A picture that is drawn from its number.
export async function GET(request, { params }) {
  const { name } = await params;
  const number = Number(NAME.exec(name)?.[1]);
  if (!number) return Response.json({ error: "no such picture" }, { status: 404 });
  const hue = (number * 47) % 360;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="320" height="200" viewBox="0 0 320 200">
<rect width="320" height="200" fill="hsl(${hue} 45% 72%)"/>
<circle cx="${60 + ((number * 31) % 200)}" cy="70" r="34" fill="hsl(${hue} 55% 88%)"/>
<path d="M0 200 L110 90 L180 160 L230 120 L320 200 Z" fill="hsl(${hue} 40% 45%)"/>
<text x="12" y="188" font-family="sans-serif" font-size="14" fill="white">${name}</text>
</svg>
`;
  return new Response(svg, { headers: { "Content-Type": "image/svg+xml", "Cache-Control": "public, max-age=60" } });
}
