"""Secrets to be planted, the ways in which they come in, and harmless texts that look much like them."""

import base64
import hashlib
import json
import random
import string
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import quote

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
UPPER = string.ascii_uppercase + string.digits
WORD = ALNUM + "_-"


def drawn(random_: random.Random, alphabet: str, length: int) -> str:
    return "".join(random_.choice(alphabet) for _ in range(length))


def jwt(random_: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part({'sub': drawn(random_, HEX, 8)})}.{drawn(random_, WORD, 43)}"


def password(random_: random.Random) -> str:
    """What a person or a password manager makes up; never a word alone that a text could hold anyway."""
    word = random_.choice(["Quartz", "harbour", "Zeppelin", "kiwi", "walnut"])
    return word + random_.choice(["-", "!", "_", "9", "$", ".", "%", "#"]) + drawn(random_, ALNUM, random_.randint(6, 14))


def pem(random_: random.Random) -> str:
    kind = random_.choice(["RSA ", "EC ", "", "OPENSSH ", "ENCRYPTED ", "DSA "])
    body = base64.b64encode(bytes(random_.randrange(256) for _ in range(300))).decode()
    lines = [body[n : n + 64] for n in range(0, len(body), 64)]
    return "\n".join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])


def of(alphabet: str, length: int, before: str = "", after: str = "") -> Callable[[random.Random], str]:
    return lambda random_: before + drawn(random_, alphabet, length) + after


# Tokens that show what they are by themselves.
TOKENS: dict[str, Callable[[random.Random], str]] = {
    **{f"GitHub {kind}": of(ALNUM, 36, f"{kind}_") for kind in ("ghp", "gho", "ghu", "ghs", "ghr")},
    "GitHub, fine-grained": lambda r: f"github_pat_{drawn(r, ALNUM, 22)}_{drawn(r, ALNUM, 59)}",
    **{f"GitLab {kind}": of(WORD, 20, f"{kind}-") for kind in ("glpat", "gldt", "glrt", "glft", "glsoat", "glcbt")},
    "GitLab runner registration": of(WORD, 20, "GR1348941"),
    "AWS access key": of(UPPER, 16, "AKIA"),
    "AWS temporary key": of(UPPER, 16, "ASIA"),
    "Slack bot": lambda r: f"xoxb-{drawn(r, string.digits, 11)}-{drawn(r, string.digits, 12)}-{drawn(r, ALNUM, 24)}",
    "Slack user": lambda r: "xoxp-" + "-".join(drawn(r, string.digits, 12) for _ in range(3)) + "-" + drawn(r, HEX, 32),
    "Slack app": lambda r: f"xapp-1-{drawn(r, UPPER, 11)}-{drawn(r, string.digits, 13)}-{drawn(r, HEX, 64)}",
    "Slack webhook": of(ALNUM, 24, "hooks.slack.com/services/T0AB1CD2E/B0AB1CD2EFG/"),
    **{f"Stripe {kind}": of(ALNUM, 24, f"{kind}_") for kind in ("sk_live", "rk_live", "sk_test")},
    "Stripe, newer": of(ALNUM, 99, "sk_live_51"),
    "Stripe webhook": of(ALNUM, 32, "whsec_"),
    "npm": of(ALNUM, 36, "npm_"),
    "PyPI": of(WORD, 120, "pypi-AgEIcHlwaS5vcmc"),
    "SendGrid": lambda r: f"SG.{drawn(r, WORD, 22)}.{drawn(r, WORD, 43)}",
    "Twilio key": of(HEX, 32, "SK"),
    "Twilio account": of(HEX, 32, "AC"),
    "Google API key": of(WORD, 35, "AIza"),
    "Google OAuth": of(WORD, 80, "ya29."),
    "Google client": of(WORD, 28, "GOCSPX-"),
    "JWT": jwt,
    "OpenAI": lambda r: f"sk-{drawn(r, ALNUM, 20)}T3BlbkFJ{drawn(r, ALNUM, 20)}",
    "OpenAI project": lambda r: f"sk-proj-{drawn(r, WORD, 74)}T3BlbkFJ{drawn(r, WORD, 74)}",
    "Anthropic": lambda r: f"sk-ant-api03-{drawn(r, WORD, 93)}AA",
    "Hugging Face": of(string.ascii_letters, 34, "hf_"),
    "DigitalOcean": of(HEX, 64, "dop_v1_"),
    "Docker Hub": of(WORD, 27, "dckr_pat_"),
    "Vault": of(WORD, 90, "hvs."),
    "Shopify": of(HEX, 32, "shpat_"),
    "Telegram bot": lambda r: f"{drawn(r, string.digits, 10)}:AA{drawn(r, WORD, 33)}",
    "Mailgun": of(HEX, 32, "key-"),
    "Mailchimp": of(HEX, 32, "", "-us12"),
    "Square": of(WORD, 22, "sq0atp-"),
    "Databricks": of(HEX, 32, "dapi"),
    "Discord": lambda r: f"M{drawn(r, ALNUM, 23)}.{drawn(r, ALNUM, 6)}.{drawn(r, ALNUM, 27)}",
    "Atlassian": of(WORD, 60, "ATATT3xFfGF0"),
    "Grafana": lambda r: f"glsa_{drawn(r, ALNUM, 32)}_{drawn(r, HEX, 8)}",
    "Linear": of(ALNUM, 40, "lin_api_"),
    "Postman": lambda r: f"PMAK-{drawn(r, HEX, 24)}-{drawn(r, HEX, 34)}",
    "Pulumi": of(HEX, 40, "pul-"),
    "RubyGems": of(HEX, 48, "rubygems_"),
    "Terraform": lambda r: f"{drawn(r, ALNUM, 14)}.atlasv1.{drawn(r, ALNUM, 67)}",
    "New Relic": of(UPPER, 27, "NRAK-"),
    "Tailscale": lambda r: f"tskey-auth-{drawn(r, ALNUM, 12)}-{drawn(r, ALNUM, 32)}",
    "age": of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58, "AGE-SECRET-KEY-1"),
    "bcrypt": of(ALNUM, 53, "$2b$12$"),
    "SCRAM": lambda r: f"SCRAM-SHA-256$4096:{drawn(r, ALNUM, 22)}==${drawn(r, ALNUM, 43)}=:{drawn(r, ALNUM, 43)}=",
    "private key": pem,
}

# Where a secret without a shape of its own stands: `{}` is the secret.
NAMED = [
    *(
        f"{name}={{}}"
        for name in ("password", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "api_key", "client_secret", "PGPASSWORD")
    ),
    *(f"https://api.example.com/v1?user=ann&{name}={{}}&page=2" for name in ("access_token", "api_key", "token", "apikey")),
    *(
        f'{{"user": "ann", "{name}": "{{}}", "n": 1}}'
        for name in ("password", "apiKey", "accessToken", "client_secret", "token")
    ),
    *(f"{{'{name}': '{{}}'}}" for name in ("passwd", "secret_key", "refresh_token")),
    *(f"{name}: {{}}" for name in ("password", "db_password", "X-Api-Key", "X-Auth-Token", "PRIVATE-TOKEN", "api-key")),
    "level=error msg=refused api_key={} user=ann",
    "export STRIPE_SECRET_KEY={}\nexport HOME=/root",
    "services:\n  db:\n    environment:\n      POSTGRES_PASSWORD: {}\n",
    "      - REDIS_PASSWORD={}",
    "      - name: SMTP_PASSWORD\n        value: {}",
    "password = '{}'",
    "password='{}' host=db",
    "host=db user=app password={} dbname=x",
    'spring.datasource.password="{}"',
    "mysql --user=app --password={} db",
    "deploy --token {} --force",
    "['deploy', '--api-key', '{}']",
    "ALTER ROLE app PASSWORD '{}'",
    "CREATE USER MAPPING FOR app SERVER s OPTIONS (user 'app', password '{}')",
    'duplicate key value violates unique constraint "k"\nDETAIL:  Key (api_key)=({}) already exists.',
    "DETAIL:  Key (tenant, access_token)=(7, {}) already exists.",
    "ERROR: no such column\nLINE 1: UPDATE t SET secret = '{}'\nHINT:  Perhaps you meant to set token='{}'.",
    "INSERT INTO users (name, api_key, n) VALUES ('ann', '{}', 3), ('bob', NULL, 4)",
    "SELECT crypt('{}', gen_salt('bf'))",
    "CREATE USER app IDENTIFIED BY '{}'",
    "docker login -u ann -p {} registry.example.com",
    "mysql -u root -p{} app",
    "your password is {}",
    "ENV DB_PASSWORD {}",
    'Authorization: Digest username="ann", realm="x", response="{}"',
    "https://bucket.s3.amazonaws.com/x?X-Amz-Expires=60&X-Amz-Signature={}",
    "https://maps.example.com/api?key={}",
    "UPDATE users SET password_hash = 'x', api_token = '{}' WHERE id = 1",
    "<password>{}</password>",
    '<add key="ApiKey" value="{}"/>',
    "Set-Cookie: sid={}; Path=/; HttpOnly",
    "Cookie: theme=dark; session={}",
    "Authorization: Bearer {}",
    "Authorization: Token {}",
    "< authorization: ApiKey {}",
    "curl -H 'X-Api-Key: {}' https://api.example.com",
    '"headers": {{"authorization": "Bearer {}"}}',
    "('X-Api-Key', '{}')",
    "[(b'Authorization', b'Bearer {}')]",
    "redis://:{}@cache:6379/0",
    "postgresql://app:{}@db.example.com:5432/app?sslmode=require",
    "could not connect to amqp://ann:{}@mq/vhost",
    "login as ann, password: {}",
    "    password = '{}'\n    self.connect(host, password)",
    "TypeError: login() got password='{}', user='ann'",
    'API_TOKEN: str = "{}"',
    "//npm.example.com/:_authToken={}",
    "machine git.example.com login ann password {}",
    "db.example.com:5432:app:ann:{}",
    "SECRET_KEY_BASE={}",
    "password:\t{}",
    "DefaultEndpointsProtocol=https;AccountName=x;AccountKey={};EndpointSuffix=core.windows.net",
    "Server=db;User Id=sa;Password={};Encrypt=true",
    "wrong passphrase: {}",
    "PrivateKey = {}",
    "user_pass={}",
]
ENCODED: list[Callable[[str], str]] = [  # the form holds the secret in base64
    lambda secret: f"Authorization: Basic {base64.b64encode(f'ann:{secret}'.encode()).decode()}",
    lambda secret: f"proxy said: Basic {base64.b64encode(f'deploy:{secret}'.encode()).decode()}",
    lambda secret: f'{{"auths": {{"r.example.com": {{"auth": "{base64.b64encode(f"ann:{secret}".encode()).decode()}"}}}}}}',
]


def remotes(random_: random.Random) -> Iterator[tuple[str, str]]:
    """Addresses of git remotes, each with the secret in it."""
    token, secret = drawn(random_, ALNUM, 40), password(random_).replace("#", "-").replace("%", "-")
    yield f"origin\thttps://{token}@github.com/acme/app.git (push)", token
    yield f"origin\thttps://{token}:x-oauth-basic@github.com/acme/app.git (fetch)", token
    yield f"fatal: unable to access 'https://oauth2:{token}@gitlab.com/acme/app.git/'", token
    yield f"remote: https://ann:{secret}@git.example.com/app.git", secret
    yield f"[remote]\n\turl = https://x-access-token:{token}@github.com/acme/app", token


def encodings(text: str, random_: random.Random) -> Iterator[tuple[str, str]]:
    yield "raw", text
    for length in (0, 1, 2):
        around = drawn(random_, ALNUM, length) + " " + text + " " + drawn(random_, ALNUM, random_.randint(1, 40))
        yield f"base64, offset {length}", base64.b64encode(around.encode()).decode()
    yield "base64url", base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    yield "URL-encoded", quote(text, safe="")
    yield "JSON-escaped", json.dumps(text)
    yield "JSON in JSON", json.dumps(json.dumps(text))
    yield "JSON with \\u", "".join(f"\\u{ord(c):04x}" if not c.isalnum() else c for c in text)


def harmless(random_: random.Random) -> Iterator[str]:
    """Texts that a run writes in great numbers and that hold no secret."""

    def digest() -> bytes:
        return hashlib.sha256(random_.randbytes(8)).digest()

    commit = hashlib.sha1(random_.randbytes(8)).hexdigest()
    picture = base64.b64encode(b"\x89PNG\r\n\x1a\n" + random_.randbytes(random_.randint(300, 6000))).decode()
    yield commit
    yield f"commit {commit[:12]} by Ann"
    yield str(uuid.UUID(bytes=random_.randbytes(16)))
    yield digest().hex()
    yield f"sha256:{digest().hex()}"
    yield f"sha512-{base64.b64encode(digest() + digest()).decode()}"
    yield f'"integrity": "sha512-{base64.b64encode(digest() + digest()).decode()}"'
    yield f"data:image/png;base64,{picture}"
    yield picture
    yield f'<img src="data:image/jpeg;base64,/9j/{picture}">'
    yield f"preview {digest().hex()[:16]}; approve it with --approve {digest().hex()[:16]}"
    yield f"approved {digest().hex()[:16]} by Ann"
    yield f"2025-11-03T11:14:{random_.randrange(60):02}.{random_.randrange(1000):03}+00:00"
    yield f"evidence/page-{drawn(random_, HEX, 8)}-before.png"
    yield f"/srv/app/releases/{random_.randrange(10**14)}/backend/dist/main.{drawn(random_, HEX, 8)}.js"
    yield f"SELECT id, token, password FROM users WHERE id = {random_.randrange(10**6)} AND token IS NOT NULL"
    yield "UPDATE t SET media = NULL WHERE key = $1 AND password_changed_at < now()"
    yield f"rows: {random_.randrange(10**9)}, seconds: {random_.random() * 100:.3f}"
    yield f"SyntaxError: Unexpected token: }} in JSON at position {random_.randrange(1000)}"
    yield f"https://host.example.com:8443/@scope/pkg-{drawn(random_, HEX, 6)}?page=2"
    yield f"key: {uuid.UUID(bytes=random_.randbytes(16))}"
    yield f"evidence key {drawn(random_, UPPER, 26)}"
    yield f"0x{drawn(random_, HEX, 16)} at line {random_.randrange(900)}, pid {random_.randrange(60000)}"
    yield f"20251103T{random_.randrange(10**6):06}Z-inc-1-full-{drawn(random_, HEX, 6)}"
    yield f"INSERT INTO t (id, name) VALUES ({random_.randrange(10**6)}, 'ann')"
    yield f"Sessions: {random_.randrange(99)} of app, {random_.randrange(99)} of others; the session ended by itself"
    yield f"git@github.com:acme/app.git {commit}"
