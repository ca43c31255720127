"""Find the faults that can be put into a source file: changes of a careless edit that still compile."""

from __future__ import annotations

import ast
import bisect
import re
import typing
from dataclasses import dataclass
from typing import Dict, List, Set, Tuple, Union

COMPARISONS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==", "in": "not in", "is": "is not"}
COMPARISONS.update({"not in": "in", "is not": "is"})
ARITHMETIC = {"+": "-", "-": "+", "*": "/", "/": "*", "//": "*", "%": "*", "**": "*"}
LOGIC = {"and": "or", "or": "and"}

# Arguments that only change texts or the look of a progress bar, and no result
WORDS = {"help", "metavar", "description", "epilog", "desc", "unit", "leave", "disable", "refresh", "title"}
COMMUTATIVE = {"max", "min", "np.maximum", "mx.nd.maximum", "F.broadcast_mul"}
AXES = {"axis", "dim"}
Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


@dataclass(frozen=True)
class Fault:
    """A change at one place in one file.

    Attributes:
        path: path of the file relative to the checkout.
        kind: kind of the change, such as "number" or "condition".
        lines: first and last line, counted from 1, of the statement that contains the place.
        at_import: True if the place is in no function's body, so that it runs while the module is imported.
        line: line where the change begins.
        code: text of that line without surrounding white space.
        start: offset in the file's text where the change begins.
        end: offset where it ends.
        text: new text between these offsets.
        what: the change in words.
    """

    path: str
    kind: str
    lines: Tuple[int, int]
    at_import: bool
    line: int
    code: str
    start: int
    end: int
    text: str
    what: str

    @property
    def identity(self) -> Tuple[str, str, str]:
        """Return a key of the fault that stays the same if lines move."""
        return self.path, self.code, self.what

    def applied_to(self, source: str) -> str:
        """Return the file's text with the fault in it."""
        return source[: self.start] + self.text + source[self.end :]

    def is_python(self, source: str) -> bool:
        """Return whether the file still compiles with the fault."""
        try:
            compile(self.applied_to(source), self.path, "exec")
        except SyntaxError:
            return False
        return True


class _Finder(ast.NodeVisitor):
    """Collects the faults of one file."""

    def __init__(self, path: str, source: str) -> None:
        self.path, self.source = path, source
        self.line_starts = [0]
        for line in source.splitlines(keepends=True):
            self.line_starts.append(self.line_starts[-1] + len(line))
        self.statement: ast.stmt
        self.functions = 0  # whose bodies surround the place
        self.unordered: Set[ast.AST] = set()  # tuples and lists in which the order makes no difference
        self.faults: List[Fault] = []

    def offset(self, line: int, column: int) -> int:
        """Return the text offset of a place given by `ast`, whose columns count UTF-8 bytes."""
        start = self.line_starts[line - 1]
        text = self.source[start : self.line_starts[line]]
        return start + len(text.encode()[:column].decode())

    def span(self, node: ast.AST) -> Tuple[int, int]:
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)

    def text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end]

    def words(self, node: ast.AST) -> str:
        return " ".join(self.text(node).split())

    def add(self, kind: str, start: int, end: int, text: str, what: str) -> None:
        first, last = self.statement.lineno, self.statement.end_lineno or self.statement.lineno
        body = getattr(self.statement, "body", None)
        if isinstance(body, list):  # a compound statement, of which only the head counts
            last = max(first, body[0].lineno - 1)
        line = bisect.bisect_right(self.line_starts, start)
        code = self.source.splitlines()[line - 1].strip()
        place = (self.path, kind, (first, last), not self.functions, line, code)
        self.faults.append(Fault(*place, start, end, text, what))

    def replace(self, kind: str, node: ast.AST, text: str) -> None:
        self.add(kind, *self.span(node), text, f"`{self.words(node)}` becomes `{text}`")

    def swap(self, kind: str, one: ast.AST, other: ast.AST) -> None:
        (start, middle), (resumed, end) = self.span(one), self.span(other)
        text = self.source[resumed:end] + self.source[middle:resumed] + self.source[start:middle]
        self.add(kind, start, end, text, f"`{self.words(one)}` and `{self.words(other)}` change places")

    def operator(self, kind: str, left: ast.AST, right: ast.AST, others: Dict[str, str]) -> None:
        start, end = self.span(left)[1], self.span(right)[0]
        between = self.source[start:end]
        for found in re.finditer(r"not\s+in|is\s+not|in|is|and|or|[<>=!]=|\*\*|//|[-+*/%<>]", between):
            was = " ".join(found[0].split())
            if was in others and "#" not in between[: found.start()]:
                where = start + found.start(), start + found.end()
                self.add(kind, *where, others[was], f"`{was}` becomes `{others[was]}` before `{self.words(right)}`")
                return

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            self.statement = node
        super().visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        statement = getattr(self, "statement", None)
        for child in ast.iter_child_nodes(node):
            self.visit(child)
            if statement is not None:
                self.statement = statement

    def visit_Raise(self, node: ast.Raise) -> None:
        """Skip raise statements: whether one is reached is decided by the condition before it."""

    def visit_arg(self, node: ast.arg) -> None:
        """Skip annotations, which change nothing."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value:
            self.visit(node.value)

    def visit_function(self, node: Function) -> None:
        for default in [*node.args.defaults, *(value for value in node.args.kw_defaults if value)]:
            self.visit(default)
        self.functions += 1
        for statement in node.body:
            self.visit(statement)
        self.functions -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_function

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_Assign(self, node: ast.Assign) -> None:
        if not any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets):
            self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace("switch", node, str(not value))
        elif isinstance(value, int):
            self.replace("number", node, str(value + 1))
        elif isinstance(value, float):
            self.replace("number", node, repr(value * 1.5 if value else 1.0))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Skip f-strings, because `ast` knows places within them only since Python 3.12."""

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """Skip types, which change nothing."""
        if getattr(node.value, "id", None) not in typing.__all__:
            self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type:
            self.unordered.add(node.type)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        contained = (
            right for is_in, right in zip(node.ops, node.comparators) if isinstance(is_in, (ast.In, ast.NotIn))
        )
        self.unordered.update(contained)
        for left, right in zip([node.left, *node.comparators], node.comparators):
            self.operator("comparison", left, right, COMPARISONS)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:]):
            self.operator("condition", left, right, LOGIC)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.replace("condition", node, self.text(node.operand))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        sides = (node.left, node.right)
        if not any(isinstance(s, ast.JoinedStr) or isinstance(getattr(s, "value", None), str) for s in sides):
            self.operator("arithmetic", *sides, ARITHMETIC)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.swap("choice", node.body, node.orelse)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if self.text(node.test) in ("TYPE_CHECKING", '__name__ == "__main__"'):
            return
        for value in ("True", "False"):
            self.replace("condition", node.test, value)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Call):
            self.add("call", *self.span(node), "pass", f"`{self.words(node)}` is left out")
        self.generic_visit(node)

    def visit_Tuple(self, node: Union[ast.Tuple, ast.List]) -> None:
        if isinstance(node.ctx, ast.Load) and len(node.elts) > 1 and node not in self.unordered:
            self.swap_neighbours(node.elts)
        self.generic_visit(node)

    visit_List = visit_Tuple

    def visit_Call(self, node: ast.Call) -> None:
        if self.text(node.func) not in COMMUTATIVE:
            self.swap_neighbours(node.args)
        if self.text(node.func) == "isinstance":
            self.unordered.add(node.args[1])
        if getattr(node.func, "attr", "") in ("startswith", "endswith"):
            self.unordered.update(node.args)
        self.unordered.update(keyword.value for keyword in node.keywords if keyword.arg in AXES)
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in WORDS:
                self.leave_out(keyword)
        self.visit(node.func)
        for argument in node.args:
            self.visit(argument)
        for keyword in node.keywords:
            if keyword.arg not in WORDS:
                self.visit(keyword.value)

    def swap_neighbours(self, nodes: List[ast.expr]) -> None:
        for one, other in zip(nodes, nodes[1:]):
            starred = isinstance(one, ast.Starred) or isinstance(other, ast.Starred)
            if not starred and self.text(one) != self.text(other):
                self.swap("order", one, other)

    def leave_out(self, keyword: ast.keyword) -> None:
        start, end = self.span(keyword)
        comma = re.compile(r"\s*,").match(self.source, end)
        end = comma.end() if comma else end
        self.add("option", start, end, "", f"the argument `{self.words(keyword)}` is left out")


def find_faults(path: str, source: str) -> List[Fault]:
    """Find all faults that can be put into a file; with a few of them it may not compile.

    Args:
        path: path of the file, which is stored in the faults.
        source: text of the file.
    """
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return finder.faults
