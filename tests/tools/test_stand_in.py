from footplate.tools.stand_in import StandIn


def test_its_parts_are_called_as_the_sections_are() -> None:
    heads = [{"type": "FCNHead"}, {"type": "FCNHead"}]
    model = StandIn(
        {"type": "X", "backbone": {"type": "ResNet"}, "auxiliary_head": heads, "data_preprocessor": {"type": "P"}}
    )
    assert [name for name, _ in model.named_children()] == ["backbone", "auxiliary_head"]
    names = [name for name, _ in model.named_parameters()]
    assert "backbone.cls_token" in names
    assert "auxiliary_head.1.bn.bias" in names


def test_a_model_without_sections_has_a_backbone_and_a_head() -> None:
    assert [name for name, _ in StandIn({"type": "X"}).named_children()] == ["backbone", "head"]
