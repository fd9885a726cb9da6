"""One step away from a function: what `mutants.py` changes in the syntax tree of a right answer.

A change is `(kind, other)`: `other` stands where a part of the tree stood. Some of what comes out is no Python, or the
same as before; `source` and `mutants.py` leave that out.
"""

import ast
import copy
import re
import warnings
from contextlib import suppress
from itertools import pairwise

import torch

ALIKE = """
    Add/Sub Add/Mult Mult/Div Mult/MatMult Mult/Pow Div/FloorDiv FloorDiv/Mod FloorDiv/Mult BitAnd/BitOr And/Or Lt/LtE
    Lt/Gt Gt/GtE LtE/GtE Eq/NotEq Is/IsNot In/NotIn sum/mean max/min amax/amin argmax/argmin var/std any/all floor/ceil
    round/floor softmax/log_softmax log/log2 zeros/ones rand/randn sin/cos relu/gelu"""
PAIRS = [pair.split("/") for pair in ALIKE.split()]
IN_PLACE = {ast.Add: "add_", ast.Sub: "sub_", ast.Mult: "mul_", ast.Div: "div_"}
MODELS = ("model", "block", "layer", "net", "module", "encoder", "vit")
ENDS = [
    "dtype: .long()",
    "dtype: .half()",
    "dtype: .double()",
    "detached: .detach()",
    "one image: [:1].expand_as(result)",
]


def but(node, **fields):
    """A node with some fields replaced."""
    node = copy.copy(node)
    vars(node).update(fields)
    return node


def literal(node):
    """The number or bool that stands there, or None."""
    match node:
        case ast.UnaryOp(ast.USub(), ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Constant(value=int() | float() as value):
            return value


def others(name):
    """What can stand for an operator or function. Nothing becomes a power: in a loop, no limit ends `2 ** size`."""
    return [b for pair in PAIRS for a, b in (pair, pair[::-1]) if a == name and b != "Pow"]


def swapped(parts, at):
    return [*parts[:at], parts[at + 1], parts[at], *parts[at + 2 :]]


def letters_swapped(text, letter):
    """An einsum's or einops' string with two neighbouring axes swapped, for each pair."""
    for a, b in pairwise(re.finditer(letter, text)):
        between = text[a.end() : b.start()]
        if not set(between) & set(",>"):
            yield text[: a.start()] + b[0] + between + a[0] + text[b.end() :]


def of_call(call, modules):
    """`(kind, other)` of each step away from a call."""
    func, args = call.func, call.args
    name, owner = getattr(func, "attr", getattr(func, "id", "")), func
    while isinstance(owner, ast.Attribute):
        owner = owner.value
    owner = modules.get(getattr(owner, "id", None), torch.Tensor) if isinstance(func, ast.Attribute) else None
    yield from (("call left out", x) for x in args[:1] if literal(x) is None)
    yield from (("argument left out", but(call, args=args[:-1])) for _ in args[:1])
    yield from (
        ("argument left out", but(call, keywords=[y for y in call.keywords if y is not x])) for x in call.keywords
    )
    yield from (("arguments swapped", but(call, args=swapped(args, 0))) for _ in args[1:2])
    if owner is torch.Tensor:
        yield "call left out", func.value
    if hasattr(owner, f"{name}_"):
        yield "in place", but(call, func=but(func, attr=f"{name}_"))
    for other in others(name):
        yield "another function", but(call, func=but(func, **{"attr" if owner else "id": other}))
    if name in ("einsum", "rearrange", "reduce", "repeat"):
        for at, text in enumerate(args):
            if isinstance(getattr(text, "value", None), str):
                for other in letters_swapped(text.value, r"\w+" if at else r"\w"):
                    yield "letters swapped", but(call, args=[*args[:at], ast.Constant(other), *args[at + 1 :]])


def of_statement(statement, inputs):
    """`(kind, other)` of each step away from a statement."""
    body = getattr(statement, "body", [])
    before = lambda lines: but(statement, body=[*ast.parse(lines).body, *body])  # noqa: E731
    if not isinstance(statement, (ast.FunctionDef, ast.ClassDef, ast.Pass)):
        yield "statement left out", ast.Pass()
    for at, pair in enumerate(pairwise(body)):
        if any(isinstance(x, (ast.Expr, ast.AugAssign)) for x in pair):
            yield "statements swapped", but(statement, body=swapped(body, at))
    match statement:
        case ast.With() | ast.If():
            yield "condition left out", ast.Module(body, [])
        case ast.Return(value=ast.expr() as value):
            ends = [*ENDS, *(f"input changed: \n{name}.add_(1)" for name in inputs)]
            for kind, end in (end.split(": ") for end in ends):
                lines = f"return result{end}" if end[0] != "\n" else f"{end}\nreturn result"
                yield kind, ast.Module([*ast.parse(f"result = {ast.unparse(value)}\n{lines}").body], [])
        case ast.FunctionDef(args=arguments):
            own = [x.arg for x in arguments.args if x.arg != "self"]
            yield from (("call left out", but(statement, decorator_list=[])) for _ in statement.decorator_list[:1])
            yield "seeded", before("torch.manual_seed(0)")
            yield from (("mode", before(f"{x}.{mode}()")) for x in own if x in MODELS for mode in ("eval", "train"))
            yield from (("one image", before(f"{name} = {name}[:1]")) for name in own[:1])


def steps(part, names, inputs, modules):
    """`(kind, other)` of each step away from a part of a syntax tree, of a function with these names."""
    match literal(part):
        case bool(value):
            yield "constant", ast.Constant(not value)
        case int(value) | float(value):
            near = (value + 1, value - 1) if isinstance(value, int) else (2 * value,)
            yield from (("constant", ast.parse(repr(x), mode="eval").body) for x in (*near, -value, 0 * value))
    match part:
        case ast.stmt():
            yield from of_statement(part, inputs)
        case ast.Call():
            yield from of_call(part, modules)
        case ast.operator() | ast.cmpop() | ast.boolop():
            yield from (("operator", getattr(ast, x)()) for x in others(type(part).__name__))
        case ast.UnaryOp(operand=operand) if literal(part) is None:
            yield "operator left out", operand
        case ast.BinOp(left, op, right):
            yield from (("operands swapped", but(part, left=right, right=left)), ("operand left out", left))
            yield "operand left out", right
            if type(op) in IN_PLACE:
                yield "in place", ast.Call(ast.Attribute(left, IN_PLACE[type(op)], ast.Load()), [right], [])
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            yield from (("parts swapped", but(part, elts=swapped(elts, at))) for at in range(len(elts) - 1))
        case ast.Slice():
            for field in ("lower", "upper", "step"):
                if edge := getattr(part, field):
                    yield "slice", but(part, **{field: None})
                    ops = (ast.Add(), ast.Sub()) if literal(edge) is None else ()
                    yield from (("slice", but(part, **{field: ast.BinOp(edge, op, ast.Constant(1))})) for op in ops)
        case ast.Subscript(value=whole, ctx=ast.Load()):
            yield "slice left out", whole
        case ast.Attribute(value=whole, attr="T" | "mT"):
            yield "call left out", whole
        case ast.IfExp(body=body, orelse=orelse):
            yield from (("condition left out", body), ("condition left out", orelse))
        case ast.comprehension(ifs=[_, *_]):
            yield "condition left out", but(part, ifs=[])
        case ast.Name(name, ast.Load()) if name in names:
            yield from (("name", ast.Name(x, ast.Load())) for x in names if x != name)


def slots(node):
    """`(holder, key)` of each part below a node: `holder[key]` is that part."""
    for field, value in ast.iter_fields(node):
        holder, keys = (value, range(len(value))) if isinstance(value, list) else (vars(node), [field])
        for key in keys:
            if isinstance(holder[key], ast.AST) and not isinstance(holder[key], ast.JoinedStr):
                yield holder, key
                yield from slots(holder[key]) if literal(holder[key]) is None else ()


def changes(function, modules):
    """`(kind, line, tree, before, holder, key, other)`: with `other` as `holder[key]`, the tree is that of a mutant."""
    parts = list(ast.walk(function))
    for node in parts:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) and len(node.body) > 1:
            del node.body[0]
    inputs = sorted({x.arg for x in parts if isinstance(x, ast.arg)} - {"self"})
    names = {x.id for x in parts if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}.union(inputs)
    tree, before, line = ast.Module([function], []), ast.unparse(function), function.lineno
    yield "nothing changed", line, tree, before, tree.body, 0, function
    for holder, key in slots(tree):
        line = getattr(holder[key], "lineno", line)
        for kind, other in steps(holder[key], sorted(names), inputs, modules):
            yield kind, line, tree, before, holder, key, other


def source(tree, holder, key, other):
    """The changed function's source; `""` if that is no Python, or a list holds itself, which NumPy reads for ever."""
    part, holder[key] = holder[key], other
    text, holder[key] = ast.unparse(tree), part
    with suppress(SyntaxError, ValueError), warnings.catch_warnings(action="ignore"):
        compile(text, "", "exec")
        return "" if re.search(r"\b(\w+)\.append\(\1\)", text) else text
    return ""


def difference(before, after):
    """What was changed, in one line."""
    lines = before.splitlines(), after.splitlines()
    gone, come = (" / ".join(x.strip() for x in lines[a] if x not in lines[1 - a]) for a in (0, 1))
    return f"{gone or 'nothing'} -> {come or 'nothing'}"
