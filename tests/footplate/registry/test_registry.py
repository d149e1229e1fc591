from pathlib import Path

import pytest

import footplate_openmmlab as openmmlab
from footplate.errors import BuildError, DuplicateNameError, FootplateError, UnknownNameError
from footplate.registry import (
    HOOKS,
    MODELS,
    TRANSFORMS,
    Registry,
    using_scope,
)
from footplate_openmmlab.requirements import explain_installation


class Shape:
    def __init__(self, side: int = 1, *, colour: str = "red") -> None:
        self.side, self.colour = side, colour


class Other(Shape):
    pass


@pytest.fixture
def shapes() -> Registry:
    return Registry("shape", scope="main")


def make_class(name: str, module: str = "users_code") -> type:
    return type(name, (Shape,), {"__module__": module})


def test_register_by_decorator_and_by_call(shapes: Registry) -> None:
    @shapes.register_module()
    class Square:
        pass

    @shapes.register_module
    class Round:
        pass

    assert (shapes.get("Square"), shapes.get("Round")) == (Square, Round)
    assert shapes.register_module(module=Shape, name="Base") is Shape
    assert shapes.get("Base") is Shape
    assert (list(shapes), "Square" in shapes, "Shape" in shapes) == (["Square", "Round", "Base"], True, False)
    assert len(shapes) == 3
    assert repr(shapes) == "Registry(name='shape', scope='main', entries=['Base', 'Round', 'Square'])"


def test_duplicate_user_class_needs_force(shapes: Registry) -> None:
    shapes.register_module(module=Shape, name="Square")
    shapes.register_module(module=Shape, name="Square")  # the same class again is allowed
    with pytest.raises(DuplicateNameError, match="the shape 'Square' is already registered by .*test_registry") as e:
        shapes.register_module(module=Other, name="Square")
    assert e.value.notes == ("To replace it, pass force=True.",)
    assert shapes.get("Square") is Shape
    shapes.register_module(module=Other, name="Square", force=True)
    assert shapes.get("Square") is Other


@pytest.mark.parametrize("module", ["__main__", "own.shapes"])
def test_cell_or_reloaded_module_may_register_its_class_again(shapes: Registry, module: str) -> None:
    first, second = make_class("Square", module), make_class("Square", module)
    shapes.register_module(module=first)
    shapes.register_module(module=second)
    assert shapes.get("Square") is second
    with pytest.raises(DuplicateNameError):
        shapes.register_module(module=make_class("Round", module), name="Square")


@pytest.mark.parametrize("module", ["footplate.shapes", "torch.shapes"])
@pytest.mark.parametrize("built_in_first", [True, False])
def test_user_class_replaces_built_in(shapes: Registry, module: str, built_in_first: bool) -> None:
    own, theirs = make_class("Square"), make_class("Square", module)
    for each in (theirs, own) if built_in_first else (own, theirs):
        shapes.register_module(module=each)
    assert shapes.get("Square") is own


def test_lookup_in_parent_and_other_scopes() -> None:
    root = Registry("shape", scope="main")
    left, right = (Registry("shape", parent=root, scope=scope) for scope in ("left", "right"))
    in_root, in_left, in_right = make_class("Square"), make_class("Square"), make_class("Circle")
    root.register_module(module=in_root)
    left.register_module(module=in_left)
    right.register_module(module=in_right)
    assert (root.get("Square"), left.get("Square"), right.get("Square")) == (in_root, in_left, in_root)
    assert root.get("left.Square") is right.get("left.Square") is in_left
    assert left.get("main.Square") is in_root
    assert left.get("right.Circle") is in_right
    assert "Circle" not in left
    assert left.root is right.root is root
    with pytest.raises(UnknownNameError):
        left.get("Circle")


def test_default_scope_is_searched_first() -> None:
    root = Registry("shape", scope="main")
    left = Registry("shape", parent=root, scope="left")
    deep = Registry("shape", parent=left, scope="deep")
    in_root, in_left = make_class("Square"), make_class("Square")
    root.register_module(module=in_root)
    root.register_module(module=Shape, name="Only")
    left.register_module(module=in_left)
    with using_scope("left"):
        assert root.get("Square") is in_left
        assert root.get("Only") is Shape
        assert root.get("main.Square") is in_root
    with using_scope("deep"):
        assert (root.get("Square"), deep.get("Square")) == (in_left, in_left)
    with using_scope("nowhere"):
        assert root.get("Square") is in_root
    assert root.get("Square") is in_root


@pytest.mark.parametrize(
    ("asked", "near"),
    [("Squar", "Square"), ("left.Cirle", "Circle"), ("Zebra", None), ("Circle", "left.Circle")],
)
def test_unknown_name_suggests_nearest_name_in_tree(asked: str, near: str | None) -> None:
    root = Registry("shape", scope="main")
    left = Registry("shape", parent=root, scope="left")
    root.register_module(module=Shape, name="Square")
    left.register_module(module=Shape, name="Circle")
    with pytest.raises(KeyError) as caught:
        root.get(asked)
    assert isinstance(caught.value, UnknownNameError)
    assert caught.value.suggestion == near
    assert str(caught.value).startswith(f"unknown shape '{asked}'")
    assert ("Or set default_scope = 'left'" in str(caught.value)) == (near == "left.Circle")


NOT_INSTALLED = [
    "  'mmseg' is not installed; only the names that footplate also provides are available",
    *(f"  {line}" for line in explain_installation("mmseg")),
]
CROSS_ENTROPY = "For classification, use dict(type='LabelSmoothLoss', label_smooth_val=0), which takes class_weight."
OWN = "  Register your own classes with custom_imports = dict(imports=['my_module'])."


def test_a_package_that_footplate_replaces_may_be_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    about = tmp_path / "mmengine-0.10.7.dist-info/METADATA"
    about.parent.mkdir()
    about.write_text("Name: mmengine\nVersion: 0.10.7\n")
    with pytest.raises(UnknownNameError) as caught:
        MODELS.get("mmengine.NoSuchModel")
    assert "not installed" not in str(caught.value)


@pytest.mark.parametrize(
    ("scope", "name", "lines"),
    [
        ("mmseg", "EncoderDecoder", [*NOT_INSTALLED, OWN]),
        ("mmseg", "SmallSegmentr", ["  did you mean 'SmallSegmentor'?", *NOT_INSTALLED]),
        ("nosuch", "EncoderDecoder", ["  no registry or package has the scope 'nosuch'", OWN]),
        (None, "mmsge.Thing", ["  no registry or package has the scope 'mmsge'; did you mean 'mmseg'?", OWN]),
        (None, "CrossEntropyLoss", [f"  {CROSS_ENTROPY}"]),
    ],
)
@pytest.mark.parametrize("over_footplate", [False, True])
def test_name_from_missing_package(
    current_folder: Path,
    scope: str | None,
    name: str,
    lines: list[str],
    over_footplate: bool,
) -> None:
    if over_footplate:
        openmmlab.install()
    with using_scope(scope), pytest.raises(UnknownNameError) as caught:
        MODELS.get(name)
    assert str(caught.value).split("\n") == [f"unknown model '{name}'", *lines]


@pytest.mark.parametrize("by", ["prefix", "default scope"])
def test_registry_of_installed_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    package = f"zoo_{by[:3]}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / "registry.py").write_text(
        "from footplate.registry import TRANSFORMS as ROOT, Registry\n"
        "TRANSFORMS = Registry('transform', parent=ROOT)\n"
        "@TRANSFORMS.register_module()\nclass Stripe: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    if by == "prefix":
        found = TRANSFORMS.get(f"{package}.Stripe")
    else:
        with using_scope(package):
            found = TRANSFORMS.get("Stripe")
    assert found.__module__ == f"{package}.registry"
    monkeypatch.delitem(TRANSFORMS.children, package)


def test_registry_without_a_base_class_accepts_only_registered_classes() -> None:
    for path, error in (("os.system", "must not refer to"), (f"{__name__}.Shape", "accepts only registered classes")):
        with pytest.raises(BuildError, match=error):
            TRANSFORMS.build({"type": path})
    with pytest.raises(BuildError, match="accepts only classes and functions"):
        TRANSFORMS.register_module(name="a", module=5)  # type: ignore[call-overload]
    with pytest.raises(BuildError, match="the transform name must be a string"):
        TRANSFORMS.get(None)  # type: ignore[arg-type]
    assert TRANSFORMS.get("footplate.data.transforms.loading.LoadAnnotations") is TRANSFORMS.get("LoadAnnotations")


def test_registry_with_base_rejects_other_classes() -> None:
    with pytest.raises(BuildError, match="accepts only subclasses of"):
        HOOKS.build({"type": Shape})
    assert "Shape" not in HOOKS
    child = Registry("hook", parent=HOOKS, scope="test_bases")
    with pytest.raises(
        BuildError, match=r"the registry 'hook' accepts only subclasses of footplate\.engine\.values\.hook\.Hook"
    ):
        child.register_module(module=lambda: None, name="HookMaker")
    del HOOKS.children["test_bases"]


def test_check_does_not_build() -> None:
    built: list[int] = []
    registry = Registry("checked", noun="part")

    @registry.register_module()
    class Part:
        def __init__(self, runner: object, size: int) -> None:
            built.append(size)

    registry.check({"type": "Part", "size": 3}, runner=None)
    registry.check(Part)  # not a dict: nothing to check
    for section, message in (
        ({"type": "Part", "sise": 3}, "takes no argument 'sise'"),
        ({"type": "Part"}, "needs the argument 'size'"),
        ({"type": "Prat", "size": 3}, "unknown part 'Prat'"),
        ({"size": 3}, "a 'type' key"),
    ):
        with pytest.raises(FootplateError, match=message):
            registry.check(section, runner=None)
    assert built == []


def test_class_of_a_code_base_replaces_one_of_the_library_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.registry.scopes.is_user_module", lambda module: False)
    classes = [type("Square", (), {"__module__": f"{package}.ops"}) for package in ("mmcv", "mmdet3d")]
    for order in (classes, classes[::-1]):
        registry = Registry("shape", scope="mmdet")
        for each in order:
            registry.register_module(module=each)
        assert registry.get("Square") is classes[1]


def test_two_code_bases_add_the_same_class_to_a_third(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("footplate.registry.scopes.is_user_module", lambda module: module == "mmpose")
    registry = Registry("shape", scope="mmdet")
    classes = [type("Square", (), {"__module__": f"{package}.models"}) for package in ("mmpretrain", "mmselfsup")]
    for each in classes:
        registry.register_module(module=each)
    assert registry.get("Square") is classes[0]
    assert caplog.messages == ["Using the shape 'Square' from mmpretrain.models, not the one from mmselfsup.models."]
    for package in ("mmpretrain", "own"):  # another class of the same package, and one of an unknown package
        with pytest.raises(DuplicateNameError, match="already registered by mmpretrain.models"):
            registry.register_module(module=type("Square", (), {"__module__": f"{package}.heads"}))


def test_class_of_the_user_replaces_one_of_a_code_base(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for module in ("footplate.registry.scopes", "footplate.registry.registry"):
        monkeypatch.setattr(f"{module}.is_user_module", lambda name: not name.startswith("mmdet"))
    classes = [type("Square", (), {"__module__": f"{package}.models"}) for package in ("mmdet", "own")]
    for order in (classes, classes[::-1]):
        registry = Registry("shape", scope="mmdet")
        for each in order:
            registry.register_module(module=each)
        assert registry.get("Square") is classes[1]
        assert caplog.messages == ["Using the shape 'Square' from own.models, not the one from mmdet.models."]
        caplog.clear()
    with pytest.raises(DuplicateNameError, match="already registered by own.models"):
        registry.register_module(module=type("Square", (), {"__module__": "own.heads"}))


def test_code_base_that_cannot_be_imported_does_not_hide_a_misspelled_name() -> None:
    root = Registry("shape", scope="main")
    root.register_module(module=make_class("Square"))
    Registry("shape", parent=root, scope="mmpretrain", locations=["no_such_module.shapes"])
    with pytest.raises(UnknownNameError, match="unknown shape 'Squara'"):
        root.build({"type": "Squara"})
    Registry("shape", parent=root, scope="mine", locations=["no_such_module.shapes"])
    with pytest.raises(ModuleNotFoundError):
        root.build({"type": "Squara"})
