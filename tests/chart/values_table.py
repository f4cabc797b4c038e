"""The table of values in helm/README.md, made from the comments in values.yaml: `values_table.py --write` writes it anew."""

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parents[2] / "helm"
TARGET = CHART / "README.md"
BEGIN = "<!-- values: from values.yaml, by tests/chart/values_table.py --write -->\n"
END = "<!-- end of values -->\n"


def rows():
    """Path, default and explanation of every value that has a `# --`, in the order of the file."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    path, comment = [], []
    for line in text.splitlines():
        key = re.match(r"( *)(\w+):( |$)", line)
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip().removeprefix("#").removeprefix(" "))
            continue
        if key:
            del path[len(key[1]) // 2:]
            path.append(key[2])
            if any(one.startswith("-- ") for one in comment):
                at = values
                for part in path:
                    at = at[part]
                first = next(index for index, one in enumerate(comment) if one.startswith("-- "))
                said = " ".join(comment[first:]).removeprefix("-- ")
                yield ".".join(path), json.dumps(at, ensure_ascii=False), said
        comment = []


def table():
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for path, default, said in rows():
        shown = default if len(default) <= 60 else "see values.yaml"
        shown = f"`{shown}`" if shown == default else shown
        lines.append(f"| `{path}` | {shown} | {said.replace('|', chr(92) + '|')}. |")
    return "\n".join(lines) + "\n"


def made_anew(text):
    """The README with the table as values.yaml has it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{TARGET.name} has no place for the table, between {BEGIN.strip()} and {END.strip()}")
    return before + BEGIN + "\n" + table() + "\n" + END + after


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the file instead of comparing it")
    arguments = parser.parse_args()
    text = TARGET.read_text()
    if arguments.write:
        TARGET.write_text(made_anew(text))
    elif text != made_anew(text):
        sys.exit("helm/README.md is not what values.yaml says: tests/chart/values_table.py --write")


if __name__ == "__main__":
    main()
