"""What the README says of the chart is so: presets, values and commands that it names are there and work."""

import re
import shlex

import yaml

from chart import CHART, PRESETS, ROOT

README = (ROOT / "README.md").read_text()


def test_values_that_the_readme_names_are_there(helm):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    keys = set(re.findall(r"^\| `([a-z_.]+)` \| `COSGATE_", README, re.MULTILINE))
    named = set(re.findall(r"[`\s]((?:[a-zA-Z]+\.)+[a-zA-Z_]+)(?:[`:=]| `)", README))
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


def test_every_preset_is_named_and_its_command_renders(helm):
    assert set(re.findall(r"helm/ci/(\w[\w-]*\.yaml)", README)) == {preset.name for preset in PRESETS}
    commands = re.findall(r"`(helm install [^`]*|\.\.\. -f [^`]*)`|^(helm install .*)$", README, re.MULTILINE)
    assert len(commands) >= 6
    for command in map("".join, commands):
        words = shlex.split(command.replace("helm install cosgate helm -n ftp", "").replace("--create-namespace", ""))
        # what stands for something of the reader's own is dots
        words = ["lb-6swtxxxx" if word == "lb-..." else word.replace("...", "x") for word in words if word != "..."]
        words = [str(ROOT / word) if word.startswith("helm/") else word for word in words]
        helm.run("template", "cosgate", CHART, "-n", "ftp", *words)
