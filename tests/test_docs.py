"""Documentation that is run: every command parses, every Python block works, every link leads."""

import importlib
import inspect
import pkgutil
import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

import parti
from parti.app.cli import app
from parti.finding.settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    return [code for found, code in FENCE.findall(page.read_text()) if found == language]


COMMANDS = [
    (page.relative_to(ROOT), line.partition("#")[0].strip())
    for page in PAGES
    for code in blocks(page, "sh")
    for line in code.splitlines()
    if line.partition("#")[0].strip()
]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_every_command_shown_is_one(page: Path, command: str) -> None:
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in targets
        return
    assert program == "parti", page
    group = get_command(app)
    name, *rest = arguments
    subcommand = group.get_command(None, name)
    assert subcommand is not None, f"{page}: parti {name}"
    subcommand.make_context(name, rest)  # parses, and raises for what it does not know


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.name)
def test_python_shown_runs(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "shown.py"  # programs are shown with their source, as in a user's file
    source.write_text("".join(blocks(page, "python")))
    exec(compile(source.read_text(), str(source), "exec"), {"__name__": "shown"})


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_navigation() -> None:
    shown = re.findall(r"^\s+- .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    there = [str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")]
    assert sorted(shown) == sorted(there)


def test_the_first_page_lists_every_how_to() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)", (ROOT / "docs/index.md").read_text()))
    assert {f"how-to/{page.name}" for page in (ROOT / "docs/how-to").glob("*.md")} <= linked


def test_every_extra_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    page = (ROOT / "docs/how-to/install.md").read_text()
    named = re.findall(r"^\| `(\w+)` \|", page.partition("## Extras")[2], re.MULTILINE)
    assert set(project["optional-dependencies"]) <= set(named)


def test_every_option_without_a_setting_of_its_name_is_in_the_table() -> None:
    """`--final-epochs` is `final_epochs`; those that are called otherwise are told in the guide."""
    guide = (ROOT / "docs/guide.md").read_text().partition("## From Python")[2]
    named = set(re.findall(r"`--(?:no-)?([\w-]+)", guide))
    search = get_command(app).get_command(None, "search")
    options = {o.removeprefix("--") for p in search.params for o in p.opts if o.startswith("--")}
    arguments = set(inspect.signature(parti.find).parameters) | set(Settings.model_fields)
    otherwise = {o for o in options if o.replace("-", "_") not in arguments}
    assert otherwise <= named
    fields = set(re.findall(r"`(\w+)=", guide)) - {"budget"}
    assert fields <= arguments


def test_every_section_of_the_report_is_explained() -> None:
    page = (ROOT / "docs/how-to/understand-a-result.md").read_text()
    listed = page.partition("| section |")[2].partition("\n\n")[0]
    found = re.findall(r"^\| (?!-)([^|]+) \|", listed, re.MULTILINE)
    written = re.findall(
        r'^        \("\w+", "([^"]+)", ',
        (ROOT / "src/parti/reports/sections.py").read_text(),
        re.MULTILINE,
    )
    assert [name.strip() for name in found] == written


def modules() -> list[str]:
    walked = pkgutil.walk_packages(parti.__path__, "parti.")
    return sorted(m.name for m in walked if not m.name.endswith("predict_template"))


@pytest.mark.parametrize("name", modules())
def test_public_names_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, name
    for public in getattr(module, "__all__", []):
        found = getattr(module, public)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__doc__, f"{name}.{public}"
            members = vars(found).items() if inspect.isclass(found) else []
            for member, value in members:
                if not member.startswith("_") and (inspect.isfunction(value)):
                    assert value.__doc__, f"{name}.{public}.{member}"


def test_the_reference_has_every_public_name() -> None:
    shown = set(
        re.findall(
            r"^::: (\S+)",
            "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md")),
            re.MULTILINE,
        )
    )
    for module in shown:
        importlib.import_module(module)
    homes = {home for name, home in parti._HOME.items()}
    assert homes <= shown


def test_public_names_are_exactly_these() -> None:
    expected = """
        Architecture Budget Choice Constraint Job Joint Measurement Objective Proposal State Study
        Trial __version__ activate architectures best canonical choices choose computed crossover
        derive distance extract find mix mutate neighbours one_of pareto_front repeat sample scope
        search select size some_of space supernet validate
    """
    assert sorted(parti.__all__) == expected.split()
