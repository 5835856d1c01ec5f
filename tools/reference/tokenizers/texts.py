"""Texts for tokenizers, the same on every run: words, code, numbers, many scripts, emoji, combining marks, white
space of every kind, bytes that are no UTF-8, and a tokenizer's own added tokens in the middle of it all."""

import random

ONSETS = "b c d f g h j k l m n p r s t v w z st tr pl gr ch sh th".split()
VOWELS = "a e i o u ai ea ou".split()
CODAS = ["", "", "n", "r", "s", "t", "ll", "ng", "ck", "m"]
SCRIPTS = [
    (0x00C0, 0x024F), (0x0250, 0x02AF), (0x0370, 0x03FF), (0x0400, 0x04FF), (0x0530, 0x058F), (0x05D0, 0x05EA),
    (0x0620, 0x064A), (0x0900, 0x0963), (0x0E01, 0x0E3A), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1E00, 0x1EFF),
    (0x3041, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFB4F), (0x1D400, 0x1D4FF), (0x20000, 0x20100),
]
SPACES = [" ", " ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u2003", "\u3000", "\u2028", " \n ", "\n \n", "\x0b", "\x85"]
EMOJI = ["😀", "👩‍💻", "🇩🇪", "❤️", "👍🏽", "✨", "™", "½", "Ⅷ", "①", "٣", "०", "𝟗"]
MARKS = ["\u0301", "\u0323", "\u0308", "\u0345", "\u0f73", "\u0f71", "\u1dfb", "\u0897", "\u3099", "\u20dd", "\u05b0", "\u0334"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "'\u017f", "'x", "''", "'"]
PUNCTUATION = list(".,;:!?\"()[]{}<>/\\|@#$%^&*-_=+~`") + ["...", "//", "/*", "*/", "->", "==", "</", "/>", "—", "“", "”", "¿", "。", "、"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\x80", b"\xf5\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe0\x80\x80"]
CODE = [
    "def f(x):\n    return x + 1\n", "for (int i = 0; i < n; ++i) {\n\t\ta[i] = b[i] * 2;\n\t}\n", "<div class=\"a\">\n</div>\n",
    "SELECT * FROM t WHERE id=42;\n", "https://example.org/a/b?c=d&e=f\n", "{\"key\": [1, 2.5e-3, null]}\n", "$x^2 + y_{i,j} = \\frac{1}{2}$",
]


def word(rng):
    text = "".join(rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(rng.choice((1, 1, 2, 3))))
    style = rng.random()
    return text.capitalize() if style < 0.15 else text.upper() if style < 0.2 else text


def foreign(rng):
    low, high = rng.choice(SCRIPTS)
    return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 6)))


def any_character(rng):
    while True:
        value = rng.choice((rng.randrange(0x3000), rng.randrange(0x110000)))
        if not 0xD800 <= value <= 0xDFFF:
            return chr(value)


def piece(rng, added):
    kind = rng.random()
    if kind < 0.45:
        return (word(rng) + rng.choice((" ", " ", " ", ", ", ". ", "\n"))).encode()
    if kind < 0.55:
        return foreign(rng).encode()
    if kind < 0.63:
        return rng.choice(SPACES).encode() * rng.choice((1, 1, 2, 5))
    if kind < 0.70:
        return str(rng.randrange(10 ** rng.randint(1, 12))).encode()
    if kind < 0.77:
        return (rng.choice(PUNCTUATION) * rng.choice((1, 1, 3))).encode()
    if kind < 0.81:
        return (word(rng) + rng.choice(CONTRACTIONS)).encode()
    if kind < 0.85:
        return rng.choice(EMOJI).encode()
    if kind < 0.89:
        return (rng.choice("aeounAE가क") + "".join(rng.choices(MARKS, k=rng.randint(1, 3)))).encode()
    if kind < 0.92:
        return any_character(rng).encode()
    if kind < 0.94:
        return rng.choice(CODE).encode()
    if kind < 0.96:
        return rng.choice(BROKEN)
    if kind < 0.965:
        return (rng.choice("a▁x=\u4e00") * rng.randint(2, 300)).encode()
    return (rng.choice(("", " ", "\n", "a")) + rng.choice(added) + rng.choice(("", " ", "b"))).encode() if added else b"_"


def corpus(seed, size, added, plain=False):
    """Texts of `size` bytes in all; `plain` ones are what tokenizers are trained on: words and code, valid UTF-8."""
    rng = random.Random(seed)
    texts, total = [], 0
    while total < size:
        text = b"".join(piece(rng, added) for _ in range(rng.choice((1, 2, 5, 20, 60, 200))))
        if plain:
            text = text.decode("utf-8", errors="ignore").encode()
        texts.append(text)
        total += len(text)
    return texts
