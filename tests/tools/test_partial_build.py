from footplate.tools.partial_build import StandIn


def test_stand_in_has_a_submodule_per_section() -> None:
    heads = [{"type": "FCNHead"}, {"type": "FCNHead"}]
    model = StandIn(
        {"type": "X", "backbone": {"type": "ResNet"}, "auxiliary_head": heads, "data_preprocessor": {"type": "P"}}
    )
    assert [name for name, _ in model.named_children()] == ["backbone", "auxiliary_head"]
    assert "auxiliary_head.bias" in dict(model.named_parameters())
