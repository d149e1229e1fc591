from footplate.config.origins import value_history
from footplate.config.python_execution import Namespace, variables_of
from footplate.error_context import origin_of


def run(text: str) -> Namespace:
    namespace = Namespace("main.py", {"__helper__": 1})
    exec(compile(text, "main.py", "exec"), namespace)
    return namespace


def test_assignments_record_their_lines_and_the_replaced_values() -> None:
    namespace = run("a = 1\nb = 2\na = 3\n")
    assert [(link.value, link.origin) for link in value_history(3, namespace.origins["a"])] == [
        (1, ("main.py", 1)),
        (3, ("main.py", 3)),
    ]


def test_variables_exclude_modules_functions_and_private_names() -> None:
    namespace = run("import os\n_a = 1\n__b = 2\ndef f():\n    pass\nclass C:\n    pass\ng = max\n")
    assert list(variables_of(namespace, pure=False)) == ["_a", "C", "g"]
    assert list(variables_of(namespace, pure=True)) == ["_a", "f", "C", "g"]
    assert origin_of(variables_of(namespace, pure=False), "C") == ("main.py", 6)


def test_a_global_set_in_a_function_counts() -> None:
    assert variables_of(run("def f():\n    global a\n    a = 1\nf()\n"), pure=False) == {"a": 1}


def test_a_dict_may_get_keys_while_it_is_unpacked() -> None:
    namespace = run("a = dict(k=1)\nb = {**a, 'x': a.setdefault('new', 2)}\n")
    assert namespace["b"] == {"k": 1, "x": 2}
