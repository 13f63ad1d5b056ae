"""The stubs say what the module is."""

import ast
import importlib.metadata
import importlib.resources
import inspect

import pytest

import telic
from telic import _telic

STUBS = ast.parse((importlib.resources.files("telic") / "_telic.pyi").read_text())
# Shapes of dictionaries, which only exist for type checkers.
ONLY_TYPES = {"GoalMix", "PolicyDescription", "TransitionBatch"}


NO_DEFAULT = object()


def value(default: ast.expr | None) -> object:
    return NO_DEFAULT if default is None else ast.literal_eval(default)


def parameters(function: ast.FunctionDef) -> list[tuple[str, str, object]]:
    """Name, kind and default of each parameter but `self` and `cls`."""
    arguments = function.args
    rows = []
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    for argument, default in zip(positional, defaults, strict=True):
        if argument.arg not in ("self", "cls"):
            rows.append((argument.arg, "positional", value(default)))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        rows.append((argument.arg, "keyword", value(default)))
    if arguments.kwarg:
        rows.append((arguments.kwarg.arg, "keywords", NO_DEFAULT))
    return rows


def runtime_parameters(function: object) -> list[tuple[str, str, object]]:
    kinds = {
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.POSITIONAL_ONLY: "positional",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
        inspect.Parameter.VAR_KEYWORD: "keywords",
    }
    return [
        (
            parameter.name,
            kinds[parameter.kind],
            NO_DEFAULT if parameter.default is inspect.Parameter.empty else parameter.default,
        )
        for parameter in inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        if parameter.name not in ("self", "cls")
    ]


def stub_functions(body: list[ast.stmt]) -> list[ast.FunctionDef]:
    return [node for node in body if isinstance(node, ast.FunctionDef)]


def is_property(function: ast.FunctionDef) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in function.decorator_list)


def public_names(namespace: object) -> set[str]:
    return {name for name in vars(namespace) if not name.startswith("_")}


def test_module_has_the_names_of_the_stubs() -> None:
    functions = {node.name for node in stub_functions(STUBS.body)}
    classes = {node.name for node in STUBS.body if isinstance(node, ast.ClassDef)} - ONLY_TYPES
    assert public_names(_telic) == functions | classes


@pytest.mark.parametrize("function", stub_functions(STUBS.body), ids=lambda function: function.name)
def test_functions_have_the_parameters_of_the_stubs(function: ast.FunctionDef) -> None:
    assert runtime_parameters(getattr(_telic, function.name)) == parameters(function)


@pytest.mark.parametrize(
    "stub",
    [node for node in STUBS.body if isinstance(node, ast.ClassDef) and node.name not in ONLY_TYPES],
    ids=lambda stub: stub.name,
)
def test_classes_have_the_members_of_the_stubs(stub: ast.ClassDef) -> None:
    runtime = getattr(_telic, stub.name)
    members = {function.name: function for function in stub_functions(stub.body)}
    assert public_names(runtime) == {name for name in members if not name.startswith("_")}
    for name, function in members.items():
        if is_property(function):
            assert inspect.isgetsetdescriptor(vars(runtime)[name]), name
        elif name == "__new__":
            assert runtime_parameters(runtime) == parameters(function), name
        elif not name.startswith("__"):
            assert runtime_parameters(getattr(runtime, name)) == parameters(function), name


def test_everything_public_is_documented() -> None:
    for name in telic.__all__:
        if name != "__version__":
            assert inspect.getdoc(getattr(telic, name)), name
    for name in public_names(_telic):
        assert inspect.getdoc(getattr(_telic, name)), name


def test_package_is_typed() -> None:
    assert (importlib.resources.files("telic") / "py.typed").is_file()
    assert telic.__version__ == importlib.metadata.version("telic")
