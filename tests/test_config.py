"""The configuration: where it is looked for, what it may say, and how each mistake is named."""

import subprocess
import sys
from pathlib import Path

import pytest

from sepconc.config import DATA_NAMES, MEMORY_LIMIT, Config, load_config
from sepconc.data.datasets import DATASETS
from sepconc.errors import ConfigError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """No configuration but the ones that a test writes; the user's folders and the working directory are empty."""
    for variable, folder in (("HOME", "home"), ("XDG_CONFIG_HOME", "home/.config"), ("XDG_DATA_HOME", "home/share")):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home/state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home/cache"))
    monkeypatch.delenv("SEPCONC_CONFIG", raising=False)
    inner = tmp_path / "parent" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_without_a_file_everything_is_built_in(places):
    config = load_config()
    home = places / "home"
    assert config.path is None
    assert config.registry_csv == home / "share/sepconc/classif_db.csv"
    assert config.registry_folder == home / "share/sepconc/classif"
    assert config.logs == home / "state/sepconc/runs"
    assert config.cache_folder == home / "cache/sepconc"
    assert config.cache_memory_limit == MEMORY_LIMIT
    assert config.data_root("cifar10") == home / "data"
    assert config.lock_timeout == 30.0
    assert config.defaults == {}


def test_the_nearest_file_counts_alone(places, monkeypatch):
    users = write(places / "home/.config/sepconc/config.yml", "logs: users\n")
    assert load_config().logs == users.parent / "users"
    parent = write(places / "parent/config.yml", "logs: parents\n")
    assert load_config().logs == parent.parent / "parents"
    here = write(places / "parent/inner/config.yml", "data: {root: here}\n")
    assert load_config().path == here
    assert load_config().logs == places / "home/state/sepconc/runs"  # files don't add up
    named = write(places / "elsewhere/any.yml", "logs: named\n")
    monkeypatch.setenv("SEPCONC_CONFIG", str(named))
    assert load_config().path == named
    given = write(places / "elsewhere/given.yml", "logs: given\n")
    assert load_config(given).path == given


def test_a_relative_or_home_path_names_a_file_too(places, monkeypatch):
    named = write(places / "parent/inner/mine.yml", "logs: x\n")
    monkeypatch.setenv("SEPCONC_CONFIG", "mine.yml")
    assert load_config().path == named
    monkeypatch.setenv("SEPCONC_CONFIG", "~/mine.yml")
    with pytest.raises(ConfigError, match=r"home/mine\.yml"):
        load_config()


def test_an_empty_variable_names_nothing(places, monkeypatch):
    monkeypatch.setenv("SEPCONC_CONFIG", "")
    assert load_config() == Config()


@pytest.mark.parametrize("text", ["title: My blog\nplugins: [feed]\n", "", "{{ template }}: [", "- registry\n"])
def test_a_file_of_somebody_else_in_a_parent_is_passed_over(places, text):
    write(places / "parent/config.yml", text)
    outer = write(places / "config.yml", "logs: x\n")
    assert load_config().path == outer


def test_a_broken_file_of_ours_in_a_parent_is_an_error(places):
    path = write(places / "parent/config.yml", "registry:\n  csv: [a\n")
    with pytest.raises(ConfigError, match=r"not valid YAML.*line"):
        load_config()
    write(path, "logs: runs\nregistri: x\n")
    with pytest.raises(ConfigError, match="registri"):
        load_config()


def test_somebody_elses_file_in_the_working_directory_is_an_error(places):
    write(places / "parent/inner/config.yml", "title: My blog\n")
    with pytest.raises(ConfigError, match=r'Unknown key "title" in .*inner/config.yml'):
        load_config()


def test_every_key_is_read(places, monkeypatch):
    monkeypatch.setenv("DISK", "/disk")
    path = write(
        places / "here/config.yml",
        "registry: {csv: a/table.csv, folder: ../files, lock_timeout: 5}\n"
        "data: {root: ~/sets, ImageNet: $DISK/ilsvrc, FashionMNIST: '${DISK}/f'}\n"
        "logs: /var/runs\n"
        "cache: {folder: c, memory_limit: 1.5 GiB}\n"
        "defaults: {device: cpu, workers: 0, print_freq: 7, dataset: digits}\n",
    )
    config = load_config(path)
    assert config.registry_csv == places / "here/a/table.csv"
    assert config.registry_folder == places / "files"
    assert config.lock_timeout == 5.0
    assert config.data_root("mnist") == places / "home/sets"
    assert config.data_root("imagenet") == Path("/disk/ilsvrc")
    assert config.data_root("fashion-mnist") == config.data_root("Fashion_MNIST") == Path("/disk/f")
    assert config.logs == Path("/var/runs")
    assert config.cache_folder == places / "here/c"
    assert config.cache_memory_limit == 3 * 2**29
    assert config.defaults == {"device": "cpu", "workers": 0, "print_freq": 7, "dataset": "digits"}


@pytest.mark.parametrize(
    ("text", "limit"), [("12", 12), ("'2GB'", 2 * 10**9), ("512 mb", 512 * 10**6), ("8KiB", 8192), ("0", 0)]
)
def test_sizes(places, text, limit):
    assert load_config(write(places / "c.yml", f"cache: {{memory_limit: {text}}}")).cache_memory_limit == limit


def test_older_keys_are_understood(places):
    config = load_config(write(places / "c.yml", "path_to_csv: t.csv\npath_to_classif: files\nroot: sets\n"))
    assert config.registry_csv == places / "t.csv"
    assert config.registry_folder == places / "files"
    assert config.data_root("mnist") == places / "sets"


def test_table_and_folder_stay_together(places):
    assert load_config(write(places / "c.yml", "registry: {csv: r/t.csv}")).registry_folder == places / "r/classif"
    assert load_config(write(places / "c.yml", "registry: {folder: r/f}")).registry_csv == places / "r/classif_db.csv"


def test_sections_whose_lines_are_commented_out_are_empty(places):
    assert load_config(write(places / "c.yml", "registry:\n#  csv: x\ndata:\n")).values == {}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("regstry: {csv: x}", ['Unknown key "regstry"', 'Close names: "registry"']),
        ("registry: {cvs: x}", ['Unknown key "registry.cvs"', '"registry.csv"', "lock_timeout"]),
        ("data: {imagnet: x}", ['Unknown key "data.imagnet"', '"data.imagenet"']),
        ("defaults: {threads: 2}", ['Unknown key "defaults.threads"', "defaults.workers"]),
        ("1: x", ['Unknown key "1"']),
        ("registry: {csv: 5}", ['"registry.csv"', "must be a path", "got 5"]),
        ("registry: {csv: ''}", ['"registry.csv"', "must be a path"]),
        ("registry: {csv: }", ['"registry.csv"', "must be a path", "got None"]),
        ("logs: [a, b]", ['"logs"', "must be a path", "got ['a', 'b']"]),
        ("path_to_csv: 5", ['"path_to_csv"', "must be a path"]),
        ("logs: $SEPCONC_NOT_SET/runs", ['"logs"', "$SEPCONC_NOT_SET is not"]),
        ("logs: ~nobody-of-this-name/runs", ['"logs"', "without ~"]),
        ("registry: x", ['"registry"', "keys of its own", "got 'x'"]),
        ("registry: {lock_timeout: soon}", ['"registry.lock_timeout"', "number of seconds"]),
        ("registry: {lock_timeout: -1}", ['"registry.lock_timeout"', "got -1"]),
        ("registry: {lock_timeout: .inf}", ['"registry.lock_timeout"', "got inf"]),
        ("registry: {lock_timeout: true}", ['"registry.lock_timeout"', "got True"]),
        ("cache: {memory_limit: much}", ['"cache.memory_limit"', "2GB", "got 'much'"]),
        ("cache: {memory_limit: -3}", ['"cache.memory_limit"', "got -3"]),
        ("cache: {memory_limit: true}", ['"cache.memory_limit"', "got True"]),
        ("defaults: {workers: -1}", ['"defaults.workers"', "0 or more"]),
        ("defaults: {workers: 1.5}", ['"defaults.workers"', "an integer"]),
        ("defaults: {print_freq: 0}", ['"defaults.print_freq"', "1 or more"]),
        ("defaults: {device: 0}", ['"defaults.device"', "a text"]),
        ("path_to_csv: a\nregistry: {csv: b}", ['"registry.csv" twice', '"path_to_csv"']),
        ("data: {CIFAR10: a, cifar-10: b}", ['"data.cifar10" twice', '"data.cifar-10"']),
        ("- registry", ['"key: value"', "registry"]),
        ("just words", ['"key: value"', "'just words'"]),
        ("a: b: c", ["not valid YAML"]),
        ("logs: 2021-13-45", ["not valid YAML"]),
        ("!!python/object/apply:os.getcwd []", ["not valid YAML"]),
    ],
)
def test_every_mistake_names_the_file_and_the_key_on_one_line(places, text, parts):
    path = write(places / "here/config.yml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in [str(path), *parts]:
        assert part in message


def test_bytes_that_are_not_text_are_an_error(places):
    path = places / "c.yml"
    path.write_bytes(b"logs: \xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path)


def test_a_byte_order_mark_does_not_matter(places):
    path = places / "parent/config.yml"
    path.write_bytes(b"\xef\xbb\xbflogs: runs\r\n")
    assert load_config().logs == places / "parent/runs"


def test_a_named_file_must_exist(places, monkeypatch):
    monkeypatch.setenv("SEPCONC_CONFIG", str(places / "gone.yml"))
    with pytest.raises(ConfigError, match=r"gone.yml \(No such file.*SEPCONC_CONFIG"):
        load_config()
    with pytest.raises(ConfigError, match="Can't read"):
        load_config(places)


def test_a_deleted_working_directory_does_not_matter(places):
    write(places / "home/.config/sepconc/config.yml", "logs: users\n")
    (places / "parent/inner").rmdir()
    assert load_config().logs == places / "home/.config/sepconc/users"


def test_without_a_home_only_the_places_in_it_are_errors(places, monkeypatch):
    for variable in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable)
    monkeypatch.setattr("pwd.getpwuid", lambda number: (_ for _ in ()).throw(KeyError(number)))
    config = load_config(write(places / "c.yml", "logs: runs\n"))
    assert config.logs == places / "runs"
    assert load_config().path is None
    with pytest.raises(ConfigError, match=r'No home directory.*"registry.csv"'):
        _ = config.registry_csv
    with pytest.raises(ConfigError, match=r'No home directory.*"data.root"'):
        config.data_root("mnist")


def test_the_known_data_sets_are_those_of_the_table():
    assert set(DATA_NAMES) == set(DATASETS)


def test_tables_and_settings_need_no_heavy_package():
    code = (
        "import sys, sepconc.config, sepconc.scores, sepconc.report; sepconc.config.load_config();"
        "print([name for name in ('torch', 'sklearn', 'pandas', 'numpy') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_remotes_by_name(places):
    write(
        places / "parent/inner/config.yml",
        "remotes:\n  my.lab-1: {path: work/registry}\n  cluster:\n    host: login.example.org\n    path: ~/r\n"
        "    user: me\n    port: 2222\n    identity_file: ~/.ssh/id\n    folder: r/files\n  2021: {path: x}\n",
    )
    assert load_config().remotes == {
        "my.lab-1": {"host": "my.lab-1", "path": "work/registry"},
        "cluster": {
            "host": "login.example.org",
            "path": "~/r",  # the home there, not the one here
            "user": "me",
            "port": 2222,
            "identity_file": places / "home/.ssh/id",
            "folder": "r/files",
        },
        "2021": {"host": "2021", "path": "x"},
    }
    assert Config().remotes == {}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("remotes: lab\n", '"remotes" in .* must hold keys of its own'),
        ("remotes: {lab: there}\n", 'The remote "lab" in .* must hold keys of its own .*path'),
        ("remotes: {lab: {}}\n", '"remotes.lab.path" in .* must be a path on that machine; got None'),
        ("remotes: {lab: {host: h}}\n", 'The remote "lab" in .* has no path'),
        ("remotes: {lab: {path: x, prot: 22}}\n", r'Unknown key "remotes\.lab\.prot".*"remotes\.lab\.port"'),
        ("remotes: {lab: {path: x, port: 0}}\n", r'"remotes\.lab\.port" in .* must be a port, from 1 to 65535; got 0'),
        ("remotes: {lab: {path: x, port: true}}\n", "must be a port"),
        ("remotes: {lab: {path: [x]}}\n", "must be a path on that machine"),
        ("remotes: {lab: {path: x, password: y}}\n", "Unknown key"),
        ("remotes: {'a b': {path: x}}\n", "must be called by letters"),
        ("remotes: {'a:b': {path: x}}\n", "must be called by letters"),
    ],
)
def test_remotes_that_are_wrong_are_named(places, text, problem):
    write(places / "parent/inner/config.yml", text)
    with pytest.raises(ConfigError, match=problem):
        load_config()
