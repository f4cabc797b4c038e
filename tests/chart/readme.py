"""What the documents say of the chart is so: presets, values, commands and links that they name are there and work."""

import re
import shlex

import yaml

import values_table
from chart import CHART, PRESETS, ROOT

README = (ROOT / "README.md").read_text()
GUIDE = "".join(page.read_text() for page in sorted((ROOT / "src/guide").glob("*.md")))
OF_CHART = (CHART / "README.md").read_text()


def test_values_that_the_documents_name_are_there(helm):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    keys = set(re.findall(r"^\| `([a-z_.]+)` \| `COSGATE_", GUIDE, re.MULTILINE))
    prose = OF_CHART.partition(values_table.BEGIN)[0]
    named = set(re.findall(r"[`\s=]((?:[a-zA-Z]+\.)+[a-zA-Z_]+)(?:[`:=]| `)", README + GUIDE + prose))
    checked = 0
    for one in named:
        first, *rest = one.split(".")
        if first == "config":
            assert one.removeprefix("config.") in keys, one
            checked += 1
        elif first in values and one not in keys:
            at = values[first]
            for part in rest:
                assert isinstance(at, dict) and part in at, f"{one} is not in values.yaml"
                at = at[part]
            checked += 1
    assert checked >= 20, sorted(named)


def test_the_table_of_values_is_what_values_yaml_says():
    assert OF_CHART == values_table.made_anew(OF_CHART), "helm/README.md has drifted: tests/chart/values_table.py --write"
    assert len(list(values_table.rows())) > 60


def test_every_preset_is_named_and_its_command_renders(helm):
    assert set(re.findall(r"helm/ci/(\w[\w-]*\.yaml)", OF_CHART)) == {preset.name for preset in PRESETS}
    text = OF_CHART.replace("\\\n", " ")
    commands = re.findall(r"`(helm install [^`]*|\.\.\. -f [^`]*)`|^(helm install .*)$", text, re.MULTILINE)
    assert len(commands) >= 9
    commands += re.findall(r"^()(helm install .*)$", README, re.MULTILINE)
    for command in map("".join, commands):
        words = shlex.split(command.replace("helm install cosgate helm -n ftp", "").replace("--create-namespace", ""))
        # what stands for something of the reader's own is dots
        words = ["lb-6swtxxxx" if word == "lb-..." else word.replace("...", "x") for word in words if word != "..."]
        words = [str(ROOT / word) if word.startswith("helm/") else word for word in words]
        helm.run("template", "cosgate", CHART, "-n", "ftp", *words)


def anchors(text):
    """The anchors of headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_is_one_version_of_jaeger():
    files = [*(ROOT / "k8s").glob("*.yaml"), *(ROOT / "src" / "guide").glob("*.md"), *ROOT.glob("*.md"), *CHART.rglob("*.yaml")]
    named = re.findall(r"jaegertracing/[\w-]+:[\w.]+", "".join(file.read_text() for file in files))
    assert len(named) >= 2 and len(set(named)) == 1, named


def test_every_link_between_documents_leads_somewhere():
    documents = [one for one in ROOT.rglob("*.md") if not {"target", "node_modules", ".git"} & set(one.relative_to(ROOT).parts)]
    checked = 0
    for document in documents:
        for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), f"{document.relative_to(ROOT)}: {link}"
            if anchor and target.suffix == ".md":
                assert anchor in anchors(target.read_text()), f"{document.relative_to(ROOT)}: {link}"
            checked += 1
    assert checked >= 15
