"""The README's examples run, its figures are those of the documents, and the Chinese one says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh.md"))
PAGES = ("README.md", "README.zh.md", "docs/use.md", "docs/architecture.md", "CHANGELOG.md", "CONTRIBUTING.md")
MOST_LINES = 170


def blocks(text: str, language: str = r"\w*") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


EXAMPLES = [
    (page, example) for page in PAGES for example in blocks((ROOT / page).read_text(encoding="utf-8"), "python")
]


def test_there_are_examples() -> None:
    assert len(blocks(README, "python")) >= 2


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_python_example_runs(page: str, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example, page, "exec"), {})


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    if page != "CHANGELOG.md":  # which names what is gone
        for path in re.findall(r"(?:scripts|cmg_ref|envs|configs|tests)/[\w/]*\w\.py", text):
            assert (ROOT / path).is_file(), path
        programs = set(re.findall(r"\bcmg-[a-z-]+[a-z]", text))
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        assert {program for program in programs if f'"{program} = ' not in setup} == set()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:^|`)make ([\w-]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for link in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / link).is_file(), link


def test_every_command_and_what_it_calls_is_in_the_readme() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for program in re.findall(r'"(cmg-[\w-]+) = ', setup):
        assert f"`{program}`" in README, program
    for script in re.findall(r"`(\w+\.py)`", README):
        assert (ROOT / "scripts" / script).is_file(), script


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < MOST_LINES


def rows(text: str) -> list[list[str]]:
    """Cells of all rows of tables."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def figures(text: str) -> list[list[str]]:
    """Rows of the tables of results: what was measured, and numbers alone."""
    return [row for row in rows(text) if len(row) > 2 and all(re.fullmatch(r"[\d.]+%?", cell) for cell in row[1:])]


def test_figures_are_those_of_the_documents() -> None:
    """`cmg-evaluate` and `cmg-play --evaluate` write those."""
    evaluation = rows((ROOT / "docs/evaluation.md").read_text(encoding="utf-8"))
    measured = {(row[0], row[1]): row[2] for row in evaluation if len(row) > 2}
    policy = {row[0]: row for row in rows((ROOT / "docs/policy_evaluation.md").read_text(encoding="utf-8"))}
    found = figures(README)
    assert len(found) >= 12
    for command, *numbers in found:
        if numbers[0].endswith("%"):
            assert numbers == policy[command][1:5], command
        else:
            names = ("root speed error", "yaw rate error", "foot slip")
            assert numbers == [measured[name, command] for name in names], command
    counts = re.search(r"(\d+) of\s+(\d+)\s+requirements met", README)
    assert counts is not None
    assert f"{counts[1]} of {counts[2]} requirements met" in (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")


def without_comments(text: str) -> list[str]:
    return [re.sub(r"\s*#.*", "", line) for line in text.splitlines()]


def test_the_chinese_readme_says_the_same() -> None:
    levels = [
        re.findall(r"^#+(?= )", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M) for text in (README, CHINESE)
    ]
    assert levels[0] == levels[1], "headings"
    assert [without_comments(block) for block in blocks(README)] == [
        without_comments(block) for block in blocks(CHINESE)
    ], "commands and examples"
    assert [row[1:] for row in figures(README)] == [row[1:] for row in figures(CHINESE)], "figures"
    assert len(rows(README)) == len(rows(CHINESE)), "tables"
    pages = [set(re.findall(r"\]\(((?!README)[^)#]+)", text)) for text in (README, CHINESE)]
    assert pages[0] == pages[1], "links"
    # Names of programs, options and files, and numbers with their units.
    named = [set(re.findall(r"`([^`\n]+)`", text)) for text in (README, CHINESE)]
    assert named[0] == named[1]
    numbers = [sorted(re.findall(r"\b\d+(?:\.\d+)?(?= ?(?:m/s|rad/s|s\b))", text)) for text in (README, CHINESE)]
    assert numbers[0] == numbers[1]
