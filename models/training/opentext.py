"""Journey: OPEN TEXT on the machine (manuals, licences, package texts, sayings, docstrings) -> grammar.py -> speech.

Collects plain sentences of 3 to 13 words, so that the model meets words that no list of ours holds. The result is
written once to a file: training that is continued elsewhere uses the same sentences.
"""
import collections
import gzip
import os
import random
import re
from pathlib import Path

ROOTS = ["/usr/share/man/man1", "/usr/share/man/man5", "/usr/share/man/man7", "/usr/share/man/man8", "/usr/share/doc",
         "/usr/share/common-licenses", "/usr/share/perl", "/var/lib/dpkg/status", "/usr/share/vim", "/usr/share/games/fortunes",
         os.path.dirname(os.__file__)]
SENTENCE = re.compile(r"(?:^|[.:;?!\n\"] *)([A-Z][a-z' \n,]{12,110})[.;:?!](?=\s)")


def read(path):
    """The text of a file without manual-page markup; empty if it cannot be read."""
    try:
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
            s = f.read(150000).decode("utf-8", "ignore")
    except (OSError, EOFError):
        return ""
    s = re.sub(r"\\f.|\\&|\\-", lambda m: "-" if m[0] == "\\-" else "", s)
    return re.sub(r"(?m)^\.[A-Z][A-Za-z]* ?|^ \.$|^\s*[#*]+ ", "", s)


def sentences(limit=60000, max_files=9000, seed=5, roots=ROOTS):
    """Sorted, shuffled list of sentences, at most `limit`."""
    files = []
    for d in roots:
        if os.path.isfile(d):
            files.append(d)
        for root, _, names in os.walk(d):
            files += [os.path.join(root, f) for f in names
                      if f.endswith((".gz", ".py", ".txt", ".md", ".rst", ".pod", "copyright")) or "." not in f]
    files.sort()
    random.Random(seed).shuffle(files)
    files.sort(key=lambda f: "fortunes" not in f)                          # plain English first: there is little of it
    out, in_files = set(), collections.Counter()
    for f in files[:max_files]:
        here = set()
        for m in SENTENCE.finditer(read(f)):
            t = " ".join(m[1].lower().replace(",", " ").split())
            w = t.split()
            if 3 <= len(w) <= 13 and all(2 <= len(x) <= 14 or x in "ai" for x in w) and not re.search(r"[^a-z' ]|''| '|' ", t):
                out.add(t)
                here.update(w)
        in_files.update(here)
    # a word of one file alone is often a name of a function or a slip
    good = {w for w, n in in_files.items() if n >= 3 and re.search("[aeiouy]", w)}
    kept = sorted(t for t in out if all(w in good for w in t.split()))
    random.Random(seed).shuffle(kept)
    return kept[:limit]


def load(path):
    """Sentences and their words from `path`; made there first if it does not exist."""
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(sentences()) + "\n")
    s = path.read_text().splitlines()
    return s, sorted({w for t in s for w in t.split() if len(w) > 2})


if __name__ == "__main__":
    import sys
    s, words = load(sys.argv[1])
    print(len(s), "sentences,", len(words), "words")
