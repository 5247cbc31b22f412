"""Tests of the Helm charts; tools/charts.sh says how to call it, and finds Helm.

Comes in: charts/, and Helm by $HELM. Goes out: a line for each thing that is wrong, with the difference, and a
count; exit code 1 when something is. Needs nothing but Python's own library: rendered YAML is compared as text,
which Helm writes the same every time.
"""

import difflib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHARTS = ROOT / "charts"
DEFINITION = "smallestdeployments.yaml"
# Release and namespace that the cases are rendered for.
RELEASES = {"smallest-operator": ("smallest", "smallest-system"), "smallest": ("voice", "speech")}

# Namespace of the dry run: where the operator is installed already, its selectors could not be changed.
DRY_RUN = "smallest-dry-run"

# The oldest Kubernetes that the charts take.
OLDEST = "1.29.0"

passed = 0
failures: list[str] = []


def check(what: str, problem: str) -> None:
    """Counts one check; a problem is what is wrong, nothing when all is well."""
    global passed
    if problem:
        failures.append(what)
        print(f"FAILED  {what}\n{problem.rstrip()}\n")
    else:
        passed += 1


def difference(found: str, file: pathlib.Path) -> str:
    """How a text differs from a committed file."""
    expected = file.read_text() if file.exists() else ""
    name = str(file.relative_to(ROOT))
    lines = difflib.unified_diff(expected.splitlines(True), found.splitlines(True), name, "now")
    return "".join(lines)


def hold(what: str, found: str, file: pathlib.Path, update: bool) -> None:
    """Checks that a committed file is as it would be written now, or writes it."""
    if update:
        file.write_text(found)
    check(what, difference(found, file))


# ------------------------------------------------------------------------------------------------- rendering

def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Helm, without a cluster."""
    environment = os.environ | {"KUBECONFIG": "/nonexistent"}
    return subprocess.run([os.environ["HELM"], *arguments], capture_output=True, text=True, env=environment)


def with_notes(chart: str, folder: pathlib.Path) -> pathlib.Path:
    """A copy of a chart that renders its notes as a document too: `helm template` leaves them out."""
    copy = shutil.copytree(CHARTS / chart, folder / chart)
    shutil.copy(copy / "templates/NOTES.txt", copy / "NOTES.txt")
    (copy / "templates/notes.yaml").write_text('kind: Notes\nnotes: {{ tpl (.Files.Get "NOTES.txt") . | toJson }}\n')
    return copy


def render(chart: str, values: pathlib.Path, namespace: str = "") -> tuple[list[str], str, str]:
    """Documents, notes and error of a chart with a file of values, in the cases' namespace or another one."""
    release = RELEASES[chart][0]
    namespace = namespace or RELEASES[chart][1]
    with tempfile.TemporaryDirectory() as folder:
        copy = with_notes(chart, pathlib.Path(folder))
        done = helm("template", release, str(copy), "--namespace", namespace, "--values", str(values),
                    "--kube-version", OLDEST)
    if done.returncode != 0:
        return [], "", done.stderr
    manifest = documents(done.stdout)
    notes = next(document for document in manifest if kind(document) == "Notes")
    manifest.remove(notes)
    return manifest, json.loads(re.search(r"^notes: (.*)$", notes, re.M)[1]), ""


def documents(manifest: str) -> list[str]:
    """The documents of a manifest, without the lines that part them."""
    return [document.strip() + "\n" for document in re.split(r"^---$", manifest, flags=re.M) if document.strip()]


def kind(document: str) -> str:
    """Kind of a document."""
    return re.search(r"^kind: (\S+)$", document, re.M)[1]


def recorded(manifest: list[str]) -> str:
    """What a case records: everything but the long definition, which `definition` checks."""
    kept = [document for document in manifest if kind(document) != "CustomResourceDefinition"]
    return "---\n" + "---\n".join(kept)


def cases(chart: str) -> list[pathlib.Path]:
    """The folders of a chart's cases."""
    return sorted(folder.parent for folder in (CHARTS / chart / "tests").glob("*/values.yaml"))


def case(chart: str, folder: pathlib.Path, update: bool) -> None:
    """One case: values in, manifest and notes, or an error, out."""
    what = f"{chart}: {folder.name}"
    manifest, notes, error = render(chart, folder / "values.yaml")
    wanted = folder / "expected-error.txt"
    if wanted.exists():
        missing = [line for line in wanted.read_text().splitlines() if line not in error]
        check(what, "".join(f"not in the error: {line}\n" for line in missing) + (error if missing else ""))
    elif error:
        check(what, error)
    else:
        hold(what, recorded(manifest), folder / "expected.yaml", update)
        hold(f"{what}, notes", notes.strip() + "\n", folder / "expected-notes.txt", update)


# ------------------------------------------------------------------------------------------------ consistency

def definition() -> None:
    """The chart ships the definition that the code generates, and adds only labels and annotations."""
    generated = (ROOT / "crds/generated" / DEFINITION).read_text()
    check("smallest-operator: its copy of the definition (make generate writes it)",
          difference(generated, CHARTS / "smallest-operator/files" / DEFINITION))
    for name, keep in (("default", True), ("everything", False)):
        manifest, _, error = render("smallest-operator", CHARTS / "smallest-operator/tests" / name / "values.yaml")
        found = [document for document in manifest if kind(document) == "CustomResourceDefinition"]
        problem = error if len(found) != 1 else ""
        if not problem:
            head, body = found[0].split("\nspec:\n", 1)
            problem += "" if body == generated.split("\nspec:\n", 1)[1] else "its spec is not the generated one"
            problem += "" if ("helm.sh/resource-policy: keep" in head) == keep else f"crds.keep={keep} has no effect"
        check(f"smallest-operator: rendered definition, {name}", problem)


def versions() -> None:
    """Charts and programs are released together."""
    workspace = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
    for chart in RELEASES:
        text = (CHARTS / chart / "Chart.yaml").read_text()
        wrong = [key for key in ("version", "appVersion") if f"\n{key}: {workspace}\n" not in text]
        check(f"{chart}: version {workspace}", "".join(f"{key} in Chart.yaml differs\n" for key in wrong))


def keys() -> dict[str, tuple[str, str]]:
    """Keys without meaning in chart `smallest`: key → (noted or refused, text)."""
    text = (CHARTS / "smallest/files/keys.yaml").read_text()
    found = re.findall(r"^(\S+):\n  (noted|refused): (.+)$", text, re.M)
    return {key: (effect, words) for key, effect, words in found}


def keys_are_tested() -> None:
    """Every noted key stands in the notes of a case, every refused one in an error of a case."""
    tests = CHARTS / "smallest/tests"
    text = {
        "noted": (tests / "noted-keys/expected-notes.txt").read_text(),
        "refused": (tests / "error-refused-keys/expected-error.txt").read_text(),
    }
    for key, (effect, _) in keys().items():
        named = re.search(rf"(^|[\s,]){re.escape(key)}[,:]", text[effect], re.M)
        check(f"smallest: {key} is {effect} in a case", "" if named else "no case names it")


# ------------------------------------------------------------------------------------------------------ tables

def values(chart: str) -> list[tuple[str, str, str]]:
    """Rows (key, default, meaning) of a chart's values.yaml. The comment above a key is its meaning."""
    rows, path, comment = [], [], []
    for number, line in enumerate((CHARTS / chart / "values.yaml").read_text().splitlines(), 1):
        match = re.match(r"( *)(?:# ?(.*)|([\w-]+):(?: (.*))?)$", line)
        if not match:
            comment = []
            continue
        depth = len(match[1]) // 2
        if match[3] is None:
            comment.append(match[2])
            continue
        path = [*path[:depth], match[3]]
        if match[4] is not None:
            if not comment:
                sys.exit(f"charts: {chart}/values.yaml:{number}: {'.'.join(path)} has no comment that says what it is")
            rows.append((".".join(path), match[4], " ".join(comment)))
        comment = []
    return rows


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def readme(chart: str, update: bool) -> None:
    """The tables of a README are those of the files that they describe."""
    file = CHARTS / chart / "README.md"
    text = file.read_text()
    rows = [(f"`{key}`", f"`{default}`", meaning) for key, default, meaning in values(chart)]
    tables = {"values": table(("Key", "Default", "Meaning"), rows)}
    if chart == "smallest":
        rows = [(f"`{key}`", effect, words) for key, (effect, words) in keys().items()]
        tables["keys"] = table(("Key", "Becomes", "Because, and what to do"), rows)
    for name, content in tables.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        before, _, rest = text.partition(begin)
        text = before + begin + content + end + rest.partition(end)[2]
    hold(f"{chart}: tables of README.md", text, file, update)


# ----------------------------------------------------------------------------------------------------- dry run

def kubectl(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs kubectl against the cluster of $KUBECONFIG."""
    return subprocess.run([os.environ["KUBECTL"], *arguments], input=stdin, capture_output=True, text=True)


def dry_run() -> None:
    """Every variant goes to the apiserver, which checks it as if it were stored. What is made for that goes again."""
    resources = kubectl("api-resources", "--no-headers")
    if resources.returncode != 0:
        sys.exit(f"charts: the apiserver does not answer:\n{resources.stderr}")
    kinds = {line.split()[-1] for line in resources.stdout.splitlines() if line.strip()}
    if "SmallestDeployment" not in kinds:
        sys.exit("charts: install the definition first: kubectl apply --server-side -f crds/generated")
    variants = {}
    for chart in RELEASES:
        for folder in cases(chart):
            if not (folder / "expected-error.txt").exists():
                manifest, _, error = render(chart, folder / "values.yaml", DRY_RUN)
                check(f"{chart}: {folder.name} renders", error)
                variants[f"{chart}: {folder.name}"] = manifest
    made = []
    try:
        # Objects of a namespace can be checked only where there is one.
        everything = "".join(document for manifest in variants.values() for document in manifest)
        for namespace in sorted(set(re.findall(r"^  namespace: (\S+)$", everything, re.M))):
            if kubectl("get", "namespace", namespace).returncode != 0:
                done = kubectl("create", "namespace", namespace)
                check(f"namespace {namespace}", done.stderr if done.returncode != 0 else "")
                made.append(namespace)
        for what, manifest in variants.items():
            give(what, manifest, kinds)
    finally:
        for namespace in made:
            kubectl("delete", "namespace", namespace, "--wait=false")


def give(what: str, manifest: list[str], kinds: set[str]) -> None:
    """Gives a variant to the apiserver, but for kinds that it does not know."""
    for document in manifest:
        if kind(document) not in kinds:
            print(f"skipped {what}: this cluster has no {kind(document)}")
    known = [document for document in manifest if kind(document) in kinds]
    done = kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "--field-manager=helm",
                   "--filename=-", stdin="---\n".join(known))
    check(f"{what}, as the apiserver sees it", done.stderr if done.returncode != 0 else "")


def main() -> int:
    """Runs what the argument says."""
    started = time.monotonic()
    argument = sys.argv[1] if len(sys.argv) > 1 else ""
    if argument == "--dry-run":
        dry_run()
    else:
        for chart in RELEASES:
            lint = helm("lint", "--strict", "--kube-version", OLDEST, str(CHARTS / chart), *(
                ["--values", str(CHARTS / chart / "tests/minimal/values.yaml")] if chart == "smallest" else []))
            check(f"{chart}: helm lint", "" if lint.returncode == 0 else lint.stdout + lint.stderr)
            for folder in cases(chart):
                case(chart, folder, update=argument == "--update")
            readme(chart, update=argument == "--update")
        definition()
        versions()
        keys_are_tested()
    print(f"{passed} passed, {len(failures)} failed in {time.monotonic() - started:.1f}s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
