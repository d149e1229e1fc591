from tests.footplate.cli.conftest import footplate  # noqa: F401 - a fixture
