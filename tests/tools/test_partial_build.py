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
