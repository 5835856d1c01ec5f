"""Texts that break tokenizers: every character in a few surroundings, very long runs, and random mixtures of what is
near a rule's edge. The same on every run with the same Python: its tables say which characters there are."""

import random
import unicodedata

import texts

WHITE = [chr(c) for c in (*range(9, 14), *range(0x1C, 0x20), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028,
                          0x2029, 0x202F, 0x205F, 0x3000)]
# Look like white space, and are none.
NEARLY_WHITE = list("\u180e\u200b\u200c\u200d\u2060\ufeff\u00ad\u2800\u3164\x00\x7f")
QUOTES = ["'", "\u2019", "\u02bc", "\uff07", "\u0027\u0301", "''"]
ENDINGS = ["s", "S", "\u017f", "t", "T", "re", "RE", "rE", "Re", "ve", "vE", "VE", "m", "M", "ll", "LL", "lL", "d", "D",
           "r", "l", "v", "rea", "lla", "ss", "\ufb06", "\u00df", "\u1e9e", "\u212a", "st"]
# Composition's special cases: exclusions, singletons, marks that come apart, starters that compose with a starter.
COMPOSING = [
    "\u0958", "\u0915\u093c", "\u09c7\u09be", "\u0b47\u0b56", "\u0dd9\u0dcf\u0dca", "\u0f71\u0f72", "\u0f73", "\u0f75",
    "\u0f81", "\u0f43", "\u0f42\u0fb7", "\u2adc", "\u2add\u0338", "\u1d15e", "\U0001d15e", "\U0001d157\U0001d165",
    "\u212b", "\u2126", "\u212a", "\u0340", "\u0341", "\u0343", "\u0344", "\u0374", "\u037e", "\u0387", "\u1fef",
    "\u2000", "\u2329", "\uf900", "\ufa10", "\U0002f800", "\ufb1d", "\u05d9\u05b4", "\ufb2c", "\u1100\u1161\u11a8",
    "\uac00\u11a8", "\uac01\u11a8", "\u1100\u1161", "\u1112\u1175\u11c2", "\ud7a3\u11a7", "\u1161\u11a8", "\u1100\u1100",
    "\U00011099\U000110ba", "\U00011131\U00011127", "\U00011347\U0001133e", "\U000114b9\U000114ba",
    "\U000115b8\U000115af", "\U00011935\U00011930", "\U000105d2\u0307", "\U00016121\U0001611e", "\u1b05\u1b35",
    "a\u0323\u0302", "a\u0302\u0323", "\u1ea1\u0302", "q\u0307\u0323", "\u0065\u0301\u0301", "\u30ab\u3099", "\u309d\u3099",
    "\u0a72\u0a3c", "\u1025\u102e", "\u0cc6\u0cc2\u0cd5", "\u0bc6\u0bbe", "\u0d46\u0d3e",
]
TOKEN_LIKE = ["<0x0A>", "<0x0a>", "<0xFF>", "<0x+A>", "<unk>", "<s>", "</s>", "<0x", "<|endoftext|>", "<|endoftext", "▁",
              "▁▁", " ▁", "▁ ", "Ġ", "Ċ", "ĠĠ", "Ã©", "\u0143", "\u0144", "[INST]", "\ufffd", "##a", "</w>"]
SEQUENCES = ["👩‍👩‍👧‍👦", "👨🏿‍🚀", "🏴\U000e0067\U000e0062\U000e007f", "☎\ufe0e", "☎️", "1\ufe0f\u20e3", "🇩🇪🇫🇷🇩",
             "👍🏽🏽", "\u200d", "❤\ufe0f\u200d🔥"]
DIGITS = "0123456789٠٣٩۵०९৩๓໓༣၃៣᠓０９𝟎𝟿½¾Ⅷⅷ①㈠㊉一〇²₃௰፩"
LETTERS = "aZéßıİſǅǆʰˈʕªºαΩжЁאשبيहकกเकाঙா한가각あンー々〆漢𠀀𝐀ꙮⰀꭰᏸ\u0345\u24b6ⓐ\u2160"
LONE = ["\ue000", "\U000f0000", "\U0010fffd", "\ufdd0", "\ufffe", "\uffff", "\U0001ffff", "\u0378", "\u0530",
        "\U0001f9ff", "\U000323b0", "\U0003fffd", "\u088f", "\u0c5c", "\u1acf", "\u20c1", "\ua7ce", "\U00010940",
        "\U00011db0", "\U00016ea0", "\U0001e6c0", "\x1b", "\x01", "\x00"]


def piece(rng, added):
    kind = rng.randrange(16)
    if kind == 0:
        return "".join(rng.choices(WHITE, k=rng.choice((1, 2, 3, 8))))
    if kind == 1:
        return "".join(rng.choices(WHITE + NEARLY_WHITE + ["a", ".", "\n", "\r", " "], k=rng.randint(1, 8)))
    if kind == 2:
        return rng.choice(("", "a", " ", "É", "1", ".", "\u0301")) + rng.choice(QUOTES) + rng.choice(ENDINGS)
    if kind == 3:
        return rng.choice(COMPOSING) + "".join(rng.choices(texts.MARKS, k=rng.randint(0, 3)))
    if kind == 4:
        return "".join(chr(rng.choice(MARKS)) for _ in range(rng.randint(1, 6)))
    if kind == 5:
        return rng.choice(TOKEN_LIKE)
    if kind == 6:
        return rng.choice(SEQUENCES)
    if kind == 7:
        return "".join(rng.choices(DIGITS, k=rng.randint(1, 7)))
    if kind == 8:
        return "".join(rng.choices(LETTERS, k=rng.randint(1, 7)))
    if kind == 9:
        return "".join(rng.choices(LETTERS + DIGITS + " \n\r\t.,'/-_", k=rng.randint(1, 12)))
    if kind == 10:
        return rng.choice(LONE)
    if kind == 11:
        return chr(rng.randint(0x1100, 0x11FF)) + chr(rng.randint(0x1160, 0x11FF)) + chr(rng.randint(0xAC00, 0xAFFF))
    if kind == 12:
        return texts.any_character(rng)
    if kind == 13:
        return "".join(chr(rng.choice(ASSIGNED)) for _ in range(rng.randint(1, 4)))
    if kind == 14:
        return rng.choice(texts.PUNCTUATION) * rng.choice((1, 2, 5)) + rng.choice(("\n", "\r\n", "/", "//\n", " ", ""))
    if not added:
        return rng.choice(texts.ONSETS)
    token = rng.choice(added)
    cut = rng.randrange(len(token) + 1)
    return rng.choice((token, token, token + token, token[:cut], token[cut:], token.upper(),
                       rng.choice(WHITE) + token + rng.choice(WHITE), "_" + token, token + "é", token + "\u0301"))


MARKS = [c for c in range(0x300, 0x1F000) if unicodedata.category(chr(c))[0] == "M"]
BULK = (range(0x3400, 0xA000), range(0xAC00, 0xD7A4), range(0x17000, 0x18D00), range(0x20000, 0x323B0))
ASSIGNED = [c for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co") and not any(c in b for b in BULK)]


def every_character(around):
    """Rows with all characters but those of the large blocks, of which some, each in the same surroundings."""
    chosen = ASSIGNED + [c for bulk in BULK for c in bulk[::37]] + list(range(0xE0000, 0xE0200)) + [0x378, 0xFDD0, 0xFFFF]
    chosen += [c for c in range(0x10000, 0x1FC00, 3)] + [c for c in range(0x300, 0x3000)]
    chosen = sorted(c for c in set(chosen) if not 0xD800 <= c <= 0xDFFF)
    for start in range(0, len(chosen), 200):
        yield "".join(around.replace("?", chr(c)) for c in chosen[start:start + 200])


MANY_MARKS = ["\u0301", "\u0323\u0302", "\u0302\u0323", "\u0344", "\u0f73\u0f71", "\u0345\u0301\u031b", "\u07fd\u0301", "\u0dca"]


def long_rows(size):
    for unit in ("a", "A", " ", "\n", " \n", "1", ".", "▁", "'s", "é", "漢", "가", "\u1100\u1161", "👍🏽", "\u3000", "aA", "a ",
                 "\x00", "\u0f71\u0f72"):
        yield unit * (size // len(unit.encode()))
    # The library takes quadratic time to order marks of several classes.
    yield "a" + "\u0301" * (size // 2)
    yield "a" + "\u0323\u0301\u0345" * (size // 60)
    yield "".join(start + rest * 40 + "b" for start in COMPOSING + list("aâậ가ǖ") for rest in MANY_MARKS)
    yield " " * size + "a"
    yield "\u0041" * 3 + "\u00c4" * (size // 4) + "a"


def corpus(seed, size, added, long=1_000_000):
    rng, rows = random.Random(seed), []
    for around in ("?", "a?b ", " ?\u0301", "1?2", "'?e'l?'r?", "\n? ?\n", "\u0323?\u0f72", "\uac00?"):
        rows += [row.encode() for row in every_character(around)]
    # A token with white space and word characters of all kinds beside it.
    for token in added[:12]:
        rows += [row.encode() for row in every_character(f"?{token}?")] if len(token) < 8 else []
    total = sum(map(len, rows))
    while total < size:
        row = "".join(piece(rng, added) for _ in range(rng.choice((1, 2, 4, 10, 30, 100)))).encode()
        if rng.random() < 0.1:
            place = rng.randrange(len(row) + 1)
            row = row[:place] + rng.choice(texts.BROKEN) + row[place + rng.randrange(2):]
        rows.append(row)
        total += len(row)
    return rows + [row.encode() for row in long_rows(long)] if long else rows


# Characters of the Unicode versions in which the library's parts differ: 9, 16 and 17.
VERSIONS = "a\u0897 \u0c5ca \U00011de0\U00016ff6 \u07fd\u0301\u0323 \U00010efd"

# Over 32 marks, some of which move before those of the character that they follow.
MARK_RUNS = " \ufb2c" + "\u0dca\u0301" * 17 + "â" + "\u0302\u0323" * 17


def small(seed, added):
    """A few short texts, every added token once."""
    rng = random.Random(seed)
    rows = [(VERSIONS + MARK_RUNS).encode(), "".join(rng.choice(("", " ", "e")) + token for token in added).encode()]
    for count in (3, 8, 25):
        rows.append("".join(piece(rng, added) for _ in range(count)).encode())
    rows.append(rng.choice(texts.BROKEN) + texts.piece(rng, added) + rng.choice(texts.BROKEN))
    return rows
