"""The order of the files, and how long a test waits."""

# Seconds that a test waits for what must come: many times what a slow, busy machine needs, so this ends what hangs.
PATIENCE = 300

# Those that take minutes come first, so that two workers, each with a file, end together.
LONGEST = ("06_training.ipynb", "test_explorers.py")


def pytest_collection_modifyitems(items):
    def place(item):
        name = item.path.name
        return LONGEST.index(name) if name in LONGEST else len(LONGEST) + (not name.endswith(".ipynb"))

    items.sort(key=place)
