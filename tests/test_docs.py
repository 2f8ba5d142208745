"""What docs/twist.md tells to run: its library example, and files and options that there are."""

from __future__ import annotations

import re
from pathlib import Path

from configs.twist_cmg_config import G1CMGMimicCfg
from envs.hosts.twist_options import read_options

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "twist.md").read_text(encoding="utf-8")


def test_library_example_runs() -> None:
    example = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "CMGMotionLib(" in block)
    exec(compile(example, "docs/twist.md", "exec"), {})


def test_files_and_targets_exist() -> None:
    for path in set(re.findall(r"`?((?:scripts|envs|configs|cmg_ref|tests)/[\w/]+\.py)", PAGE)):
        assert (ROOT / path).is_file(), path
    for target in re.findall(r"`make ([\w-]+)`", PAGE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), target


def test_commands_are_understood() -> None:
    """With the options that TWIST itself knows left for it."""
    lines = re.findall(r"^cmg-twist (train|play) (.*)$", PAGE.replace("\\\n", ""), re.MULTILINE)
    assert {action for action, _ in lines} == {"train", "play"}
    for action, words in lines:
        arguments = words.split("#")[0].split()
        options, rest = read_options(arguments, playing=action == "play")
        assert options.overrides == [word for word in arguments if "=" in word]
        assert "--exptid" in rest


def test_settings_exist() -> None:
    named = set(re.findall(r"\bcmg\.(\w+)=", PAGE))
    assert len(named) >= 4
    assert all(hasattr(G1CMGMimicCfg.cmg, name) for name in named)


def test_links_within_the_page_lead_somewhere() -> None:
    headings = {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in re.findall(r"^#+ (.*)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
