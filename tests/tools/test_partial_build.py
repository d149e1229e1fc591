from footplate.tools.partial_build import StandIn


def test_stand_in_has_a_submodule_per_section() -> None:
    heads = [{"type": "FCNHead"}, {"type": "FCNHead"}]
    model = StandIn(
        {"type": "X", "backbone": {"type": "ResNet"}, "auxiliary_head": heads, "data_preprocessor": {"type": "P"}}
    )
    assert [name for name, _ in model.named_children()] == ["backbone", "auxiliary_head"]
    names = [name for name, _ in model.named_parameters()]
    assert "backbone.cls_token" in names
    assert "auxiliary_head.1.bn.bias" in names


def test_stand_in_without_sections_has_backbone_and_head() -> None:
    assert [name for name, _ in StandIn({"type": "X"}).named_children()] == ["backbone", "head"]
