"""Maps each item of the security page to its tests."""

import re

import pytest

from tests.docs.pages import DOCS, ROOT

# The first words of each item of the page, and its tests.
TESTS: dict[str, tuple[str, ...]] = {
    "A `.py` config is a program.": (
        "tests/footplate/config/test_loading.py::test_assignments_record_their_lines_and_the_replaced_values",
    ),
    "A dotted `type` that is written": (
        "tests/footplate/config/test_trusted_paths.py::test_python_config_may_name_any_suitable_class",
        "tests/footplate/config/test_trusted_paths.py::test_unsuitable_class_is_refused_in_python_config",
    ),
    "Commands that build components": (
        "tests/footplate/config/test_imports.py::test_modules_are_imported_from_the_current_folder",
        "tests/footplate_openmmlab/test_installation.py::test_the_plugin_of_a_first_generation_config_is_imported",
    ),
    "These commands also import the package": (
        "tests/footplate/registry/test_registry.py::test_registry_of_installed_package_is_found",
    ),
    "A dotted `type` imports the module": (
        "tests/footplate/registry/test_dotted_paths.py::test_class_in_user_module_needs_no_registration",
        "tests/footplate/registry/test_dotted_paths.py::test_rejected_module_is_not_imported",
    ),
    "A `type` such as `timm.resnet18`": (
        "tests/footplate/models/test_package_models.py::test_config_may_not_choose_files",
        "tests/footplate/models/test_package_models.py::test_dotted_path_into_the_package_stays_forbidden",
    ),
    "`predict` and `export` read": (
        "tests/footplate_vision/inference/test_predictor.py::test_recorded_config_executes_nothing",
        "tests/footplate_vision/inference/test_runs_from_python.py::test_a_checkpoint_calls_no_other_function",
    ),
    "A script that you start": ("tests/footplate/cli/test_run.py::test_a_script_may_save_drawn_images_in_any_folder",),
    "Paths on the command line": (
        "tests/footplate/config/test_literals.py::test_invalid_values_are_refused",
        "tests/faults/malice.py::_overridden",
    ),
    "Reading the config executes nothing": (
        "tests/footplate/config/test_data_formats.py::test_invalid_data_reports_the_line",
        "tests/faults/malice.py::_tagged",
    ),
    "The config can inherit only from other data configs.": (
        "tests/footplate/config/test_loading.py::test_no_base_is_executed",
        "tests/footplate/config/test_loading.py::test_data_config_may_inherit_from_a_recipe",
    ),
    "`explain` without a topic": ("tests/footplate/config/test_loading.py::test_inspecting_a_config_imports_nothing",),
    "Every `type` must be": (
        "tests/footplate/registry/test_dotted_paths.py::test_yaml_config_unpickles_nothing",
        "tests/footplate/registry/test_dotted_paths.py::test_library_classes_are_rejected",
        "tests/footplate/registry/test_dotted_paths.py::test_docs_list_allowed_torch_classes",
        "tests/footplate/config/test_trusted_paths.py::test_data_config_based_on_a_recipe_may_not_name_any_class",
        "tests/footplate/config/test_trusted_paths.py::test_override_may_not_name_any_class",
        "tests/faults/gadgets.py::begin_gadgets",
    ),
    "`compile` accepts": (
        "tests/footplate/cli/test_compiling.py::test_data_config_starts_no_program",
        "tests/footplate/test_torch_compile.py::test_every_other_option_of_the_compiler_is_refused",
    ),
    "Models from transformers": ("tests/footplate_vision/test_task_base.py::test_a_detector_fetches_nothing",),
    "Weights at an address": (
        "tests/footplate/checkpoint/test_addresses.py::test_downloaded_file_executes_nothing_and_is_not_shared",
        "tests/footplate/checkpoint/test_addresses.py::test_downloads_stay_in_the_cache",
        "tests/footplate/checkpoint/test_addresses.py::test_inspecting_a_config_downloads_nothing",
    ),
    "Hooks, metrics and writers write": (
        "tests/footplate/engine/test_outputs.py::test_outputs_stay_in_the_work_dir",
        "tests/footplate/engine/test_outputs.py::test_image_name_stays_in_the_log_folder",
    ),
    "`CheckpointHook.out_dir` and": (
        "tests/footplate/hooks/test_checkpoint_hook.py::test_checkpoints_in_out_dir",
        "tests/footplate/hooks/test_logger_hook.py::test_logs_are_copied_to_out_dir",
    ),
    "Loading, showing, verifying": ("tests/footplate/checkpoint/test_malicious_files.py::test_nothing_is_executed",),
    "The names inside an archive": (
        "tests/footplate/checkpoint/test_malicious_files.py::test_member_names_have_no_effect_on_the_file_system",
    ),
    "An archive whose members": (
        "tests/footplate/checkpoint/test_torch_file.py::test_archives_that_grow_when_they_are_read_are_refused",
    ),
    "A run removes only": (
        "tests/footplate/hooks/test_checkpoints_kept.py::test_foreign_files_listed_in_a_checkpoint_are_kept",
        "tests/footplate/hooks/test_overwritten_checkpoints.py::test_run_in_the_folder_of_another_is_refused_although_it_resumes_a_third",
    ),
    "The pointer `last_checkpoint`": (
        "tests/footplate/checkpoint/test_run_checkpoints.py::test_pointer_to_another_storage_is_ignored",
    ),
    "Neither inspecting a run": (
        "tests/footplate/cli/test_foreign_runs.py::test_inspecting_a_run_executes_nothing",
        "tests/footplate/cli/test_foreign_runs.py::test_diff_executes_nothing_in_a_run",
        "tests/footplate/cli/test_foreign_runs.py::test_resumed_run_executes_nothing_in_its_work_dir",
        "tests/footplate/config/test_trusted_paths.py::test_recorded_config_may_not_name_any_class",
        "tests/faults/folders.py::begin_folders",
    ),
    "Links that lead out": (
        "tests/footplate/cli/test_foreign_runs.py::test_links_out_of_a_run_are_not_followed",
        "tests/footplate/cli/test_foreign_runs.py::test_image_of_another_format_starts_no_program",
        "tests/footplate/cli/test_foreign_runs.py::test_files_that_are_not_regular_are_skipped",
    ),
    "Control characters": (
        "tests/footplate/cli/test_foreign_runs.py::test_no_escape_sequence_reaches_the_terminal",
        "tests/footplate/test_messages.py::test_commands_print_only_through_streams",
    ),
    "Runs and `env` record": (
        "tests/footplate/records/test_environment.py::test_nothing_that_a_repository_configures_is_executed",
    ),
}


def test_every_item_of_the_security_page_has_tests() -> None:
    items = re.findall(r"^- (.*)$", (DOCS / "security.md").read_text(), re.MULTILINE)
    without = [item for item in items if not any(item.startswith(begin) for begin in TESTS)]
    idle = [begin for begin in TESTS if not any(item.startswith(begin) for item in items)]
    assert (without, idle) == ([], [])


@pytest.mark.parametrize("name", sorted({name for names in TESTS.values() for name in names}))
def test_tests_of_the_security_page_exist(name: str) -> None:
    path, _, function = name.partition("::")
    assert re.search(rf"^def {function}\(", (ROOT / path).read_text(), re.MULTILINE)
