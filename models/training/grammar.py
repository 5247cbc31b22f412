"""Journey: words and patterns (text/*.txt) -> SENTENCES -> speech (make_data.py) -> training (train.py).

`Sentences` draws lower-case training sentences from six sources: the main domain, everyday patterns, fixed everyday
sentences, open text found on the machine, random words, and digits. `is_held_out` is a fixed rule on the text alone, so
a held-out sentence can never slip into training, whatever the seed: 1 sentence in 16 by checksum, plus everything that
shares five words in a row with the everyday test set.
"""
import random
import re
import zlib
from pathlib import Path

TEXT = Path(__file__).resolve().parent / "text"
SMALL = "two three four five six seven eight nine ten eleven twelve".split()
TEEN = "thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
DIGIT = "zero one two three four five six seven eight nine".split()
SHARE = {"domain": .36, "pattern": .23, "fixed": .04, "open": .17, "salad": .16, "digits": .04}
IRREGULAR_PLURAL = dict(zip(
    "man woman child foot tooth goose mouse louse ox person leaf knife wife life half shelf wolf thief loaf calf scarf "
    "policeman fisherman salesman snowman sheep deer fish scissors pants jeans".split(),
    "men women children feet teeth geese mice lice oxen people leaves knives wives lives halves shelves wolves thieves "
    "loaves calves scarves policemen fishermen salesmen snowmen sheep deer fish scissors pants jeans".split()))
DOUBLING = set("""ban beg bet chat chop clap dig drag drip drop fit flap get grab grin grip hit hop hug hum jog knit knot let
mop nap nod pack pat pet pin plan plot pop put quit rip rob rub run scrub set ship shop shut sin sip sit skip slam slap slip
snap spin split spot step stir stop strap stroll swim tap tip trap trim trip tug wag wet win wink wrap admit begin commit
control cancel equip forbid forget occur omit permit prefer refer regret submit transfer travel cut upset wrap stun""".split()
               ) - set("pack stroll wink".split())


def plural(w):
    """The plural of a noun."""
    if w in IRREGULAR_PLURAL:
        return IRREGULAR_PLURAL[w]
    if re.search(r"(s|x|z|ch|sh)$", w):
        return w + "es"
    if re.search(r"[^aeiou]y$", w):
        return w[:-1] + "ies"
    return w + ("es" if w in ("potato", "tomato", "hero", "echo", "mosquito", "volcano", "tornado") else "s")


def past(w):
    """The past form of a regular verb."""
    if w.endswith("e"):
        return w + "d"
    if re.search(r"[^aeiou]y$", w):
        return w[:-1] + "ied"
    return w + w[-1] + "ed" if w in DOUBLING else w + "ed"


def ing(w):
    """The -ing form of a verb."""
    if w.endswith("ie"):
        return w[:-2] + "ying"
    if w.endswith("e") and not w.endswith(("ee", "ye", "oe")) and w != "be":
        return w[:-1] + "ing"
    return w + w[-1] + "ing" if w in DOUBLING else w + "ing"


def third(w):
    """The he/she/it form of a verb."""
    return {"have": "has", "be": "is", "do": "does", "go": "goes"}.get(w) or plural(w) if w not in IRREGULAR_PLURAL else w + "s"


def sections(name):
    """A text file as {kind: [words or lines]}; "[kind]" starts a section, "_" in a word stands for a space."""
    out, key = {}, None
    for line in (TEXT / name).read_text().splitlines():
        if line.startswith("["):
            key = line.strip("[]")
            out[key] = []
        elif line and not line.startswith("#"):
            out[key] += [line] if key == "patterns" else [w.replace("_", " ") for w in line.split()]
    return out


def lines(name):
    """The sentences of a text file, one a line."""
    return [s for s in (TEXT / name).read_text().splitlines() if s and not s.startswith("#")]


def number(r):
    """A number from two to nine thousand, in words."""
    k = r.random()
    if k < .35:
        return r.choice(SMALL)
    if k < .55:
        return r.choice(TEEN + TENS)
    if k < .8:
        return r.choice(TENS) + " " + r.choice(DIGIT[1:])
    n = r.choice(DIGIT[1:]) + r.choice([" hundred", " hundred", " thousand"])
    tail = r.choice(TENS + SMALL + TEEN + [r.choice(TENS) + " " + r.choice(DIGIT[1:])])
    return n + r.choice(["", " and " + tail, " " + tail])


def clock(r):
    """A time of day, in words."""
    h = r.choice(["one"] + SMALL)
    m = r.choice(["fifteen", "thirty", "forty five", "twenty", "ten", "oh five", "fifty", "twenty five"])
    return r.choice([h + " o'clock", "half past " + h, "quarter past " + h, "quarter to " + h, h + " " + m, h])


def digits(r):
    """A string of digits or a few numbers, as in phone numbers and codes."""
    k = r.random()
    if k < .6:
        return " ".join(r.choice(DIGIT + ["oh"] * (r.random() < .1)) for _ in range(r.choice([1, 2, 3, 4, 5, 6, 7, 8, 10])))
    return " ".join(number(r) for _ in range(r.choice([1, 1, 2, 3])))


EVERYDAY_TEST = lines("everyday_test.txt")


def runs(text, n=5):
    """All runs of n words of a sentence (the whole sentence if it is shorter)."""
    w = text.split()
    return {" ".join(w[i:i + n]) for i in range(max(1, len(w) - n + 1))}


TEST_RUNS = set().union(*(runs(t) for t in EVERYDAY_TEST))


def is_held_out(text):
    """True if a sentence may be used for tests only."""
    return zlib.crc32(text.encode()) % 16 == 0 or not TEST_RUNS.isdisjoint(runs(text))


class Sentences:
    """Draws sentences; `open_text` is the list from opentext.py (may be empty)."""

    def __init__(self, open_text=(), open_words=()):
        self.domain = sections("domain.txt")
        self.domain_patterns = self.domain.pop("patterns")
        self.patterns, self.fixed, self.open = lines("patterns.txt"), lines("everyday_train.txt"), list(open_text)
        self.slots = self.everyday_slots(sections("lexicon.txt"))
        keep = {w for v in self.domain.values() for w in v}
        self.keep = {w for w in keep if re.search(r"(ss|x|ch|sh)s?$", w)} | keep
        self.words = sorted({w for v in self.slots.values() for p in v for w in p.split()})
        self.domain_words = sorted({w for v in self.domain.values() for p in v for w in p.split()}
                                   | {w for t in self.domain_patterns for w in re.sub(r"\{\w+\}s?", " ", t).split()}
                                   | set("an one hundred thousand and half past quarter to o'clock oh".split())
                                   | set(SMALL + TEEN + TENS + DIGIT))
        self.open_words = list(open_words) or self.words

    def everyday_slots(self, lex):
        """Slot name -> words for the everyday patterns, with plurals and verb forms derived."""
        irregular = [w.split("/") for w in lex["irregular"]]
        base = lex["verb"] + [w[0] for w in irregular if w[0] != "be"]
        d = self.domain
        s = {k: lex[k] for k in ("thing", "place", "person", "animal", "food", "drink", "body", "nature", "idea", "name", "geo",
                                 "modern", "adverb", "small", "number")}
        for k, more in {"thing": "o", "place": "p", "person": "who", "animal": "an", "food": "f", "name": "n", "drink": "dr",
                        "body": "body"}.items():
            s[k] = list(dict.fromkeys(s[k] + d[more]))
        for k in ("thing", "person", "animal", "idea"):
            s[k + "s"] = [plural(w) for w in s[k]]
        s.update(adj=lex["adjective"] + d["a"], adv=lex["adverb"], verb=base, verbs=[third(w) for w in base],
                 ing=[ing(w) for w in base], past=[past(w) for w in lex["verb"]] + [w[1] for w in irregular[1:]],
                 part=[past(w) for w in lex["verb"]] + [w[2] for w in irregular], family=d["fam"], day=d["d"],
                 season="spring summer autumn winter morning evening night year week".split(), part_of_day=d["part"])
        return s

    def fill(self, pattern, slots, r):
        """One sentence of a pattern."""
        def draw(m):
            k = m[1]
            return number(r) if k == "num" else clock(r) if k == "clk" else r.choice(slots[k])
        t = re.sub(r"\{(\w+)\}", draw, pattern)
        if slots is self.domain:                                           # its patterns make plurals with a plain "s"
            t = re.sub(r"\b(\w+?)(s|x|ch|sh)s\b", lambda m: m[0] if m[0] in self.keep else m[1] + m[2] + "es", t)
            for wrong, right in (("knifes", "knives"), ("batterys", "batteries"), ("mouses", "mice"), ("sheeps", "sheep"),
                                 ("fishes", "fish"), ("wolfs", "wolves")):
                t = t.replace(wrong, right)
        # "a" before a vowel
        return re.sub(r"\ba (?=[aeiou])", "an ", t)

    def domain_sentence(self, r):
        """One sentence of the main domain."""
        return self.fill(r.choice(self.domain_patterns), self.domain, r)

    def salad(self, r):
        """Random words, so that the model must listen and not only guess."""
        n = r.choice([1, 2, 3, 3, 4, 4, 5, 6, 7])
        pool = r.choice([self.words, self.words, self.open_words, self.domain_words])
        return " ".join(r.choice(pool) for _ in range(n))

    def __call__(self, r):
        """One training sentence that is not held out."""
        while True:
            kind = r.choices(list(SHARE), list(SHARE.values()))[0]
            if kind == "open" and not self.open:
                kind = "pattern"
            t = {"domain": self.domain_sentence, "pattern": lambda r: self.fill(r.choice(self.patterns), self.slots, r),
                 "fixed": lambda r: r.choice(self.fixed), "open": lambda r: r.choice(self.open), "salad": self.salad,
                 "digits": digits}[kind](r)
            if not is_held_out(t):
                return t


def held_out_sentences(n, seed=99):
    """n different held-out sentences of the main domain."""
    s, r, out = Sentences(), random.Random(seed), []
    while len(out) < n:
        t = s.domain_sentence(r)
        if zlib.crc32(t.encode()) % 16 == 0 and t not in out:
            out.append(t)
    return out


if __name__ == "__main__":
    s, r = Sentences(), random.Random(1)
    for _ in range(12):
        print(s(r))
    print(len(s.domain_words), "domain words,", len(s.words), "everyday words")
