"""Which cells of a submission have to run: those that are not as the course has them, and what they depend on."""

import ast
import builtins
import re
import symtable

from .repair import from_ipython

LOOKS = {"check", "course", "display", "plots", "widgets", *dir(builtins)} - {"delattr", "next", "setattr"}
CHANGES = re.compile(r"_$|^_*(add|del|fit|load|next|pop|register|remove|run|set|step|train|update)")
# What these give shares nothing that can be changed with what they are given: a configuration never changes.
FRESH = {"VisionTransformer", "ViTConfig", "deepcopy", "float", "item", "len", "replace", "tolist"}
ANYTHING = {"_", "__", "___", "In", "Out", "eval", "exec", "get_ipython", "globals", "locals", "open", "vars"}
AT_ONCE = {"listcomp", "setcomp", "dictcomp", "genexpr"}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
BINDS = FUNCTIONS | ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom | ast.ClassDef


def symbols(table, kind="read"):
    """`(kind, name)` for the names that code reads at once, `late`, in functions, or binds."""
    for symbol in table.get_symbols():
        if table.get_type() == "module" or symbol.is_global():
            if symbol.is_referenced():
                yield kind, symbol.get_name()
            if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
                yield "bind", symbol.get_name()
    for inner in table.get_children():
        late = inner.get_type() == "function" and inner.get_name() not in AT_ONCE
        yield from symbols(inner, "late" if late else kind)


def names(*nodes):
    """The names that code reads at once, reads late and binds, as three sets."""
    code = "\n".join(ast.unparse(node) for node in nodes)
    found = set(symbols(symtable.symtable(code, "cell", "exec")))
    return [{name for what, name in found if what == kind} for kind in ("read", "late", "bind")]


def inside(*nodes):
    """All names in expressions."""
    return {part.id for node in nodes if node for part in ast.walk(node) if isinstance(part, ast.Name)}


def before(lines, after):
    """The names whose values matter before these statements, where those in `after` matter after them."""
    for line in reversed(lines):
        read, late, bound = names(line)
        if isinstance(line, BINDS):
            after = after - bound | read | late
        elif isinstance(line, ast.For):
            rest = before(line.body, set()) - inside(line.target) | before(line.orelse, set())
            after = after | rest | names(line.iter)[0]
        elif isinstance(line, ast.With):
            targets = inside(*(item.optional_vars for item in line.items))
            after = before(line.body, after) - targets | names(*(item.context_expr for item in line.items))[0]
        else:
            after = after | read | late
    return after


def pairs(target, value):
    """What is one thing under two names after `target = value`, or in `for target in value`, as pairs of sets."""
    match target, value:
        case ast.Tuple(some), (ast.Tuple(others) | ast.Call(ast.Name("zip"), others)) if len(some) == len(others):
            for one, other in zip(some, others, strict=True):
                yield from pairs(one, other)
        case ast.Tuple([_, one]), ast.Call(ast.Name("enumerate"), [other, *_]):
            yield from pairs(one, other)
        case _:
            yield inside(target), held(value)


def held(node):
    """The names whose values an expression's own may hold on to, or be part of."""
    if isinstance(node, ast.Call):
        if getattr(node.func, "id", getattr(node.func, "attr", None)) in FRESH:
            return set()
        return held(node.func).union(*map(held, node.args[:1]))
    parts = ast.iter_child_nodes(node)
    return {node.id} if isinstance(node, ast.Name) else set().union(*map(held, parts))


def at_once(node):
    """The parts of code that run where it stands: all but the insides of functions."""
    yield node
    for part in ast.iter_child_nodes(node):
        if not isinstance(part, FUNCTIONS):
            yield from at_once(part)


def changed(nodes, functions, fixed=frozenset()):
    """The names whose values code may change without binding them; `functions` change what they are given.

    A method that is called for its effect changes its own object, a function what it is given.
    """
    found, views = set(), []
    for node in nodes:
        match node:
            case ast.Expr(ast.Call(ast.Attribute(value=thing)) as call) if not inside(thing) & fixed:
                found |= inside(thing)
            case ast.Call(func=ast.Attribute(value=thing, attr=name)) if not inside(thing) & fixed:
                found |= inside(thing) if CHANGES.search(name) else set()
            case ast.Call(func=ast.Name(name) | ast.Attribute(attr=name), args=[first, *_]) if CHANGES.search(name):
                found |= inside(first)
            case ast.Call(func=ast.Name(name)) if name in functions:
                found |= inside(node)
            case ast.Expr(ast.Call() as call) if not inside(call.func) & LOOKS:
                found |= inside(call)
            case ast.AugAssign(target=target):
                found |= inside(target)
            case ast.Attribute(value=thing, ctx=ast.Store() | ast.Del()):
                found |= inside(thing)
            case ast.Subscript(value=thing, ctx=ast.Store() | ast.Del()):
                found |= inside(thing)
            case ast.Assign(targets=targets, value=value):
                views += [pair for target in targets for pair in pairs(target, value)]
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                views += pairs(target, value)
            case ast.withitem(context_expr=value, optional_vars=target):
                views.append((inside(target), inside(value)))
    before = None
    while before != found:  # what is changed under one of its names is changed under the other
        before, found = found, found.union(*(other for one, other in views if one & found))
    return found


def parsed(source):
    """A cell as Python; empty where it is none, for then it does not run either; `vars` where nobody can say."""
    try:
        try:
            tree = ast.parse(source)
        except SyntaxError:
            if len(source) > 20_000:  # IPython takes its time over long ones
                raise
            tree = ast.parse(from_ipython(source))
        names(tree)
        return tree
    except SyntaxError:
        return ast.Module([], [])
    except (ValueError, RecursionError, MemoryError):
        return ast.parse("vars")


def needed(cells, own):
    """The numbers of those of these cells (code) that have to run for the cells `own` (numbers) to find what they need.

    A cell is needed where it binds a name that is read later, or may change its value. By other ways than names, such
    as torch's random numbers, no cell depends on another; one that reads `globals`, files or IPython needs all before.
    """
    trees = [parsed(source) for source in cells]
    facts = [names(tree) for tree in trees]
    every = [node for tree in trees for node in ast.walk(tree)]
    defined = [node for node in every if isinstance(node, FUNCTIONS | ast.ClassDef)]
    imported = [one for node in every if isinstance(node, ast.Import | ast.ImportFrom) for one in node.names]
    fixed = {*dir(builtins), *(node.name for node in defined)}
    fixed |= {(one.asname or one.name).split(".")[0] for one in imported}
    functions, changes = set(), {}
    for node in defined:
        found = changed(ast.walk(node), functions, fixed)
        changes.setdefault(node.name, set()).update(found & names(node)[1])
        if isinstance(node, FUNCTIONS) and found & {part.arg for part in node.args.args}:
            functions.add(node.name)
    touched = []
    for tree, (read, late, _) in zip(trees, facts, strict=True):
        found = changed(at_once(tree), functions, fixed).union(*(changes.get(name, ()) for name in read | late))
        touched.append({name for name in found if name not in fixed and not name.isupper()})
    run, found = set(), {*own}
    while run != found:
        run, late = found, set().union(*(facts[index][1] for index in found))
        found, live, all_before = set(run), set(late), False
        for index in reversed(range(max(run, default=-1) + 1)):
            if all_before or index in run or (facts[index][2] | touched[index]) & live:
                found.add(index)
                all_before |= index in own and bool(ANYTHING & (facts[index][0] | facts[index][1]))
                kept = live if index in own else set()  # for one of the student's own may end before it binds a name
                live = before(trees[index].body, live) | late | kept
    return found
