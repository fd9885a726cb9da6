"""Names that a notebook's source defines, for the tools that measure with the notebook's own pictures and recipes."""

import ast


def notebook_names(source, names):
    """What `source`, the path of a notebook's source, imports, and its first definition of each of `names`, as a dict.

    Raises `ValueError` where one of them is not defined there.
    """
    body, wanted = [], set(names)
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else None
        name = getattr(node, "name", name)
        if isinstance(node, (ast.Import, ast.ImportFrom)) or name in wanted:
            body.append(node)
            wanted.discard(name)
    if wanted:
        raise ValueError(f"expected the notebook's source to define {sorted(wanted)}; is {source.name} as it was?")
    found = {}
    exec(compile(ast.Module(body, []), source.name, "exec"), found)
    return found
