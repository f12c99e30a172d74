import Link from "next/link";
import "./style.css";

export const metadata = { title: "Messages" };

export default function Layout({ children }) {
  return (
    <html lang="en">
      <body>
        <header><Link href="/">{process.env.NEXT_PUBLIC_PRODUCT}</Link></header>
        <main id="thread">{children}</main>
      </body>
    </html>
  );
}
