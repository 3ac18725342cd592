"""The table of architectures."""

import subprocess
import sys

import pytest

import sepconc
from sepconc.errors import BadParameter, UnknownArchitecture
from sepconc.params.archs import ARCHS, Arch, find_arch, list_archs, list_configs, resolve
from sepconc.params.field import check_names, check_params, param_infos

FOUR = ["analysis", "scatnet", "scatnetblock", "scatnetblockanalysis"]


def test_the_four_of_the_paper_are_there():
    assert [arch for arch in list_archs() if arch in FOUR] == FOUR
    assert sepconc.list_archs() == list_archs()


@pytest.mark.parametrize("name", list_archs())
def test_every_row_resolves(name):
    arch = find_arch(name)
    assert isinstance(arch, Arch)
    estimator, parameters = resolve(arch.estimator), resolve(arch.params)
    assert estimator(**arch.preset).arch == name
    assert issubclass(estimator, sepconc.ImageClassifier)
    assert issubclass(estimator, parameters)
    check_names(parameters, arch.preset)
    for config in arch.configs or [None]:
        clf = estimator(**arch.preset, **({"config": config} if config else {}))
        check_params(clf)
        clf.check_together()
    assert arch.summary


@pytest.mark.parametrize("name", list_archs())
def test_an_estimator_has_the_parameters_of_its_row(name):
    arch = find_arch(name)
    infos = param_infos(resolve(arch.params))
    assert resolve(arch.estimator)().get_params().keys() == infos.keys()
    assert sepconc.make_classifier(name).get_params() == {key: default for key, (default, _) in infos.items()} | dict(
        arch.preset
    )


@pytest.mark.parametrize("name", FOUR)
def test_these_have_no_configurations(name):
    assert list_configs(name) == []
    assert sepconc.list_configs(name) == []


@pytest.mark.parametrize("find", [find_arch, list_configs, sepconc.make_classifier])
def test_an_unknown_name_says_the_close_ones(find):
    with pytest.raises(UnknownArchitecture) as caught:
        find("scatnetbloc")
    message = str(caught.value)
    assert message.startswith('No architecture "scatnetbloc". Close names: scatnetblock')
    assert "\n" not in message
    assert isinstance(caught.value, BadParameter)
    assert isinstance(caught.value, LookupError)


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(UnknownArchitecture) as caught:
        find_arch("zzz")
    assert all(name in str(caught.value) for name in ARCHS)
    with pytest.raises(UnknownArchitecture, match='No architecture "None"'):
        find_arch(None)


def test_listing_imports_neither_torch_nor_sklearn():
    code = (
        "import sys, sepconc; sepconc.list_archs(); sepconc.list_configs('scatnet'); "
        "sys.exit(bool({'torch', 'sklearn', 'pandas'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
