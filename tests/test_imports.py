"""What is imported when, and by whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sepconc

PACKAGE = Path(sepconc.__file__).parent
REPOSITORY = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))

_REPORT = "import sys, json; print('\\n' + ' '.join(m for m in ('torch', 'sklearn', 'pandas') if m in sys.modules))"


def heavy_imports(code: str, cwd: Path) -> set[str]:
    """Which of torch, sklearn and pandas a fresh interpreter has imported after ``code``."""
    program = f"import contextlib\nwith contextlib.suppress(SystemExit):\n    {code}\n{_REPORT}\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import sepconc",
        "import sepconc; assert len(sepconc.list_archs()) >= 4",
        "import sepconc.params.archs, sepconc.params.field, sepconc.params.separation, sepconc.params.training",
        "import sepconc.registry.names, sepconc.registry.table, sepconc.registry.files, sepconc.registry.store",
        "import sepconc.config; sepconc.config.load_config()",
        "from sepconc.cli.train import main; main(['--help'])",
        "from sepconc.cli.eval import main; main(['--help'])",
        "from sepconc.cli.main import main; main(['--help'])",
        "from sepconc.cli.main import main; assert main(['list']) == 0",
        "from sepconc.cli.main import main; assert main(['archs']) == 0",
        "from sepconc.cli.main import main; assert main(['datasets']) == 0",
    ],
)
def test_neither_torch_nor_sklearn_nor_pandas_is_imported(code, tmp_path):
    assert heavy_imports(code, tmp_path) == set()


def test_the_report_of_imports_sees_a_heavy_one(tmp_path):
    assert {"torch", "sklearn"} <= heavy_imports("import sepconc; sepconc.ImageClassifier", tmp_path)


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_help_of_a_script_imports_neither_torch_nor_sklearn(script):
    command = [sys.executable, "-X", "importtime", str(REPOSITORY / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sepconc.cli.options" in imported
    assert not imported & {"torch", "sklearn", "pandas"}
    assert "usage: " in done.stdout


@pytest.mark.parametrize("name", sepconc.__all__)
def test_every_public_name_resolves(name):
    assert getattr(sepconc, name) is not None
    assert name in dir(sepconc)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'ScatNet'"):
        _ = sepconc.ScatNet


def imports_of(path: Path) -> set[str]:
    """The top packages that a file imports, anywhere in it, and the names of imported modules."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found


def test_there_are_modules_to_look_at():
    assert len(MODULES) > 40
    assert "torch" in imports_of(PACKAGE / "metrics.py")


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("torchvision", lambda path: path.parts[0] == "data"),
        ("kymatio", lambda path: path == Path("scattering/engines/kymatio.py")),
        ("paramiko", lambda path: path == Path("registry/ssh/library.py")),
        ("matplotlib", lambda path: path == Path("kernel_plots.py")),
        ("pickle", lambda path: False),
        ("cloudpickle", lambda path: False),
        ("joblib", lambda path: False),
        ("dill", lambda path: False),
    ],
)
def test_a_package_is_imported_in_its_place_only(package, allowed):
    importers = [path.relative_to(PACKAGE) for path in MODULES if package in imports_of(path)]
    assert [str(path) for path in importers if not allowed(path)] == []
