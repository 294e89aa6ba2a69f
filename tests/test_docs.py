"""Every example in the README and the docs runs and prints what it says; links lead to files.

The ```python blocks of a file are run in order, as one module, in an empty directory. A block with
`>>>` is a doctest. After any other block a ```text block is what it prints.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import re
import sys
import types
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
DESIGN = ROOT / "docs" / "design"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted(ROOT.glob("docs/**/*.md")) if DESIGN not in page.parents),
]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
AGE = re.compile(r"\bfor (\d+ (ms|s|min|h|d)\b ?)+")


class Block(NamedTuple):
    language: str
    line: int
    text: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[1], text.count("\n", 0, found.start()) + 2, found[2])
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def without_ages(text: str) -> str:
    return AGE.sub("for a while", text)


class AgelessChecker(doctest.OutputChecker):
    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return super().check_output(without_ages(want), without_ages(got), optionflags)


def run_doctest(block: Block, names: dict[str, object], where: str) -> str:
    test = doctest.DocTestParser().get_doctest(block.text, names, where, where, block.line - 1)
    report: list[str] = []
    runner = doctest.DocTestRunner(checker=AgelessChecker(), optionflags=OPTIONS)
    runner.run(test, out=report.append, clear_globs=False)
    names.update(test.globs)
    return "".join(report)


def run_program(block: Block, expected: Block | None, names: dict[str, object], where: str) -> str:
    code = compile("\n" * (block.line - 1) + block.text, where, "exec")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    want = expected.text if expected else ""
    checker = AgelessChecker()
    if checker.check_output(want, printed.getvalue(), OPTIONS):
        return ""
    return checker.output_difference(
        doctest.Example(block.text, want), printed.getvalue(), OPTIONS | doctest.REPORT_NDIFF
    )


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if "```python" in page.read_text(encoding="utf-8")],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_examples_do_what_they_say(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"examples_of_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    blocks = blocks_of(page)
    problems = []
    for block, following in zip(blocks, [*blocks[1:], None], strict=True):
        if block.language != "python":
            continue
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if ">>>" in block.text:
            problems.append(run_doctest(block, module.__dict__, where))
        else:
            expected = following if following and following.language == "text" else None
            problems.append(run_program(block, expected, module.__dict__, where))
    if any(problems):
        pytest.fail("".join(problems), pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []
