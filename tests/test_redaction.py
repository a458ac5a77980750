"""What must not be seen, is not seen; and what is ordinary stays as it is."""

import time
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rehearsal.redaction import REDACTED, UNIT, PlainStream, Redactor, plain
from tests.fuzzing import cases

KEY = "\n".join(
    [
        "-----BEGIN RSA PRIVATE KEY-----",
        "Proc-Type: 4,ENCRYPTED",
        "",
        "MIIEowIBAAKCAQEAx0gfTxzO1eZ9Q2v",
        "bGV0IG1lIG91dA==",
        "-----END RSA PRIVATE KEY-----",
    ]
)


def streamed(redactor: Redactor, pieces: list[str]) -> str:
    stream = redactor.stream()
    return "".join(map(stream.feed, pieces)) + stream.close()


def cut_at(text: str, places: list[int]) -> list[str]:
    borders = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[a:b] for a, b in zip(borders, borders[1:], strict=False)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgres://app:hunter2@db:5432/x", "postgres://app:[redacted]@db:5432/x"),
        ("redis://:p%40ss@h:1/0,redis://:b@h", "redis://:[redacted]@h:1/0,redis://:[redacted]@h"),
        ("POSTGRES_PASSWORD=a(b)c,d e", "POSTGRES_PASSWORD=[redacted] e"),
        ("export API_KEY='one two'", "export API_KEY='[redacted]'"),
        ("api_key='it\\'s me' x", "api_key='[redacted]' x"),
        ('SECRET_KEY = "unfinished', 'SECRET_KEY = "[redacted]'),
        ('password: str = "hunter2"', 'password: str = "[redacted]"'),
        ('{"access_key": "AK", "n": 1}', '{"access_key": "[redacted]", "n": 1}'),
        ('{\\"dbPassword\\":\\"AK\\"}', '{\\"dbPassword\\":\\"[redacted]\\"}'),
        ("db_password: hunter2", "db_password: [redacted]"),
        ("Generated password: hunter2", "Generated password: [redacted]"),
        ("E   X-Api-Key: 12345abc", "E   X-Api-Key: [redacted]"),
        ("/a?token=b&x=1&password=c", "/a?token=[redacted]&x=1&password=[redacted]"),
        ("SENTRY_DSN=https://k@sentry/1", "SENTRY_DSN=[redacted]"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [redacted]"),
        ("-H 'Authorization: Token 99ab'", "-H 'Authorization: Token [redacted]'"),
        ("sent Bearer abcdefgh12345678 ok", "sent Bearer [redacted] ok"),
        ("Set-Cookie: sessionid=abc; Path=/", "Set-Cookie: sessionid=[redacted]; Path=/"),
        ("pbkdf2_sha256$870000$salt$ha/sh= x", "[redacted] x"),
        ("argon2$argon2id$v=19$m=1,t=2,p=8$c2Fs$aGF", "[redacted]"),
        ("bcrypt_sha256$$2b$12$" + "a" * 53, "[redacted]"),
        ("scrypt$16384$salt$8$1$hash==", "[redacted]"),
        (f"a\nb {KEY} c\nd", "a\nb [redacted] c\nd"),
        (KEY.replace("\n", "\\n") + " c", "[redacted] c"),
    ],
)
def test_secret_shapes_are_redacted(text: str, expected: str) -> None:
    redactor = Redactor()
    assert redactor.redact(text) == expected
    assert redactor.redact(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "tests/test_token.py::test_password_reset PASSED [ 50%]",
        "tests/test_token.py::test_hashes[password-1] FAILED",
        "tokens: 5",
        "max_tokens=4096",
        "PASSWORD_RESET_TIMEOUT=259200",
        "Password: This field is required.",
        "Invalid token: expected",
        "tests/test_token.py:12: AssertionError",
        'FATAL:  password authentication failed for user "app"',
        "    token = make_token(user)",
        "    password = settings.DATABASE_PASSWORD",
        '    assert token == "abc"',
        "def sign_in(token: str, password: str | None = None) -> None:",
        "password=password, token=None",
        "PWD=/srv/app",
        "http://localhost:8000/users/@me",
        "monkey=1 compass: north bypass=1",
        "Applying auth.0003_alter_user_email_max_length... OK",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_ordinary_output_is_left_alone(text: str) -> None:
    assert Redactor().redact(text) == text


def test_known_values_are_found_however_they_are_spelled() -> None:
    secret = 'pä ss/w+"rd&1'
    spellings = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret)]
    spellings += [quote_plus(secret).lower(), secret.replace('"', '\\"'), "xx" + secret + "yy"]
    shown = Redactor([quote(secret)]).redact(" ".join(spellings))
    assert shown == " ".join([REDACTED] * 6 + [f"xx{REDACTED}yy"])


def test_short_values_are_words_or_nothing() -> None:
    redactor = Redactor(["tiger", "abc", "", "  "])
    assert redactor.redact("tiger, tigers, abc") == f"{REDACTED}, tigers, abc"


def test_each_line_of_a_long_value_is_known() -> None:
    redactor = Redactor(["first line here\nsecond line here\n"])
    assert redactor.redact("> second line here <") == f"> {REDACTED} <"


def test_the_environment_tells_the_secrets() -> None:
    environ = {
        "SECRET_KEY": "key-of-the-site",
        "DATABASE_URL": "postgres://app:urlpassword@db/x",
        "PGPASSWORD": "pgpassword1",
        "HOME": "/home/somebody",
        "PWD": "/home/somebody/project",
        "USE_TOKEN": "true",
        "TOKEN_FILE": "/run/secrets/token",
    }
    redactor = Redactor.from_environment(environ, extra=["one-more-secret"])
    for secret in ("key-of-the-site", "urlpassword", "pgpassword1", "one-more-secret"):
        assert redactor.redact(f"<{secret}>") == f"<{REDACTED}>"
    for value in ("/home/somebody/project", "true", "/run/secrets/token", "postgres://app@db/x"):
        assert redactor.redact(value) == value
    assert "key-of-the-site" not in repr(redactor) + repr(vars(redactor.stream()))


def test_a_key_that_is_cut_off_does_not_swallow_what_follows() -> None:
    text = "\n".join([*KEY.split("\n")[:4], "=== FAILED tests ===", "next", ""])
    assert Redactor().redact(text) == "[redacted]\n=== FAILED tests ===\nnext\n"


SECRETS = ["correct-horse-battery", "s3cret/with space&more", "tiger"]
LINES = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(codec="utf-8"), max_size=30),
        st.sampled_from([*SECRETS, KEY, "password='x y'", "redis://:hunter2@h", "DB_PASSWORD="]),
        st.sampled_from(SECRETS).map(lambda secret: f"a {quote_plus(secret)} b"),
    ),
    max_size=12,
).map("\n".join)


@cases(300)
@given(text=LINES, places=st.lists(st.integers(min_value=0), max_size=20))
def test_pieces_give_what_the_whole_gives(text: str, places: list[int]) -> None:
    redactor = Redactor(SECRETS)
    shown = streamed(redactor, cut_at(text, places))
    assert shown == redactor.redact(text)
    assert not any(secret in shown for secret in SECRETS[:2])
    assert "MIIEow" not in shown
    assert "hunter2" not in shown


@settings(deadline=None, max_examples=40)
@given(
    before=st.integers(min_value=UNIT - 6000, max_value=UNIT + 100),
    filler=st.sampled_from(["x", "x ", "token=", "://a:", "-"]),
    places=st.lists(st.integers(min_value=0), max_size=8),
)
def test_no_border_of_a_long_line_shows_a_secret(
    before: int, filler: str, places: list[int]
) -> None:
    text = (filler * before)[:before]
    text += f" {SECRETS[0]} " + text + f" {SECRETS[1]} {KEY} " + "y" * UNIT + f" {SECRETS[2]} end"
    redactor = Redactor(SECRETS)
    pieces = cut_at(text, places)
    shown = streamed(redactor, pieces)
    assert shown == redactor.redact(text)
    for secret in ("horse", "s3cret", "tiger", "MIIEow"):
        assert secret not in shown
    assert shown.endswith(" end")


def test_every_border_of_a_long_line() -> None:
    redactor = Redactor(SECRETS)
    hold = redactor._overlap
    for before in range(UNIT - hold - 40, UNIT - hold + 10):
        shown = redactor.redact("x" * before + SECRETS[0] + "y" * UNIT)
        assert shown == "x" * before + REDACTED + "y" * UNIT or "horse" not in shown, before


def test_a_value_longer_than_the_window_is_swallowed_to_its_end() -> None:
    shown = Redactor().redact("PASSWORD=" + "ab1" * UNIT + " next")
    assert shown == f"PASSWORD={REDACTED} next"


def test_memory_is_bounded_without_a_line_end() -> None:
    stream = Redactor(SECRETS).stream()
    shown = 0
    for _ in range(10_000):
        shown += len(stream.feed("z" * 1000))
        assert sum(map(len, stream._held)) <= UNIT + 1000
    assert shown + len(stream.close()) == 10_000_000


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10**6,
        "token" * 100_000,
        "token_" * 80_000,
        "token='token=\"" * 30_000,
        "://a:" * 100_000,
        "-----BEGIN " * 40_000,
        "-----BEGIN PRIVATE KEY-----\n" + "n" * 60_000 + "#\n",
    ],
    ids=lambda text: text[:20],
)
def test_no_input_makes_it_slow(text: str) -> None:
    began = time.process_time()
    Redactor(SECRETS).redact(text)
    assert time.process_time() - began < 10  # about 1.5; a quadratic pattern takes minutes


def test_plain() -> None:
    assert plain("\x1b[1;31mred\x1b[0m\x1b]0;title\x07 \x1b]8;;http://x\x1b\\link") == "red link"
    assert (
        plain("one\r\n10 %\r20 %\ntab\tnul\x00bell\x07\x9b2K.") == "one\n10 %\n20 %\ntab\tnulbell."
    )


@cases(500)
@given(
    text=st.text(alphabet="ab[];0m \x1b\r\n\x07\\\x9b\x00é", max_size=60),
    places=st.lists(st.integers(min_value=0), max_size=10),
)
def test_plain_in_pieces_is_plain(text: str, places: list[int]) -> None:
    stream = PlainStream()
    shown = "".join(map(stream.feed, cut_at(text, places))) + stream.close()
    assert shown == plain(text)
    assert not any(character < " " and character not in "\n\t" for character in shown)
