"""How nbgrader executes a submission: in a kernel inside the sandbox, and to the end whatever the submission does.

Each check is judged from outside: after its cell has run, the kernel is asked for what the answer gives (`answers`),
and this process judges it (`judging`). What the cell prints counts for nothing. The course's `nbgrader_config.py` puts
`SandboxedExecute` in the place of nbgrader's own `Execute`, so `nbgrader autograde`, the formgrader and `vit-tutorial
classroom --grade` all take this way.
"""

import copy
import json
import re
import secrets
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbclient.util import run_sync
from nbformat.v4 import new_markdown_cell, new_output
from nbgrader.preprocessors import Execute
from traitlets import Bool, Integer

from . import judging, sandbox
from .answers import MIME
from .exercises import answers_in, course_cells, essence, grade_id, number_of, sources
from .needed import bound_in, needed
from .sandbox import LIMITS

GRACE = 10  # seconds that an interrupted cell may take to end
MOST_OF_A_CELL, MOST_OUTPUT = 2 << 20, 40 << 20  # characters of output that are kept, of a cell and of a notebook
CUT = "\n... The output is cut here: more than {} MiB of {}.\n"
LEFT_OUT = "*Cells of the course on which no answer depends were not run.*"
ROUNDS = 3  # each with inputs drawn afresh
MODULES = "vit_tutorial.check", "vit_tutorial.classroom"  # loaded anew, in case the notebook has changed them
ASK = (
    f"[__import__('sys').modules.pop(name) for name in [*__import__('sys').modules] if name.startswith({MODULES})] and "
    "None or __import__('importlib').import_module('vit_tutorial.classroom.answers').give({!r}, lambda: {}, {}, {!r})"
)
READ_IT = re.compile(  # what no exercise needs
    r"\b(sys\.modules|get_ipython|ctypes|gc|inspect|importlib|builtins|__import__|_getframe|settrace|classroom)\b"
    r"|\bcheck\.(EXERCISES|TOPICS|verdict|reference|facts|own_vit)\b|\bvit_tutorial\.check\.\w+"
)


class SandboxedKernelManager(AsyncKernelManager):
    """Starts a Python kernel in the sandbox, reached through sockets in `folder/run`, which both sides share.

    `settings` go to `sandbox.run`. Where the kernel was killed, `folder/report` says why.
    """

    def __init__(self, folder, settings, **options):
        super().__init__(**options)
        runtime, self.report = Path(folder, "run"), Path(folder, "report")
        runtime.mkdir()
        self.transport, self.ip, self.connection_file = "ipc", f"{runtime}/socket", f"{runtime}/connection.json"
        self.settings = settings | {"runtime": str(runtime)}

    @property
    def kernel_spec(self):
        """Always this Python; what a submission's metadata name is not asked."""
        return KernelSpec(argv=[sys.executable], display_name="Python 3", language="python", interrupt_mode="message")

    def format_kernel_cmd(self, extra_arguments=None):
        Path(self.connection_file).chmod(0o644)  # the folder around it is closed to others
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", self.connection_file]
        job = self.settings | {"command": [*command, "--HistoryManager.enabled=False"]}
        return [sys.executable, "-I", sandbox.__file__, json.dumps(job), str(self.report)]

    def why(self):
        """Why the kernel ended, in words."""
        return self.report.read_text(encoding="utf-8") if self.report.exists() else "the kernel ended"


class SandboxedExecute(Execute):
    """nbgrader's `Execute` in the sandbox.

    A cell that runs too long is interrupted and gets an error, and the next ones run. Where the kernel ends (a limit
    passed, a process that ended itself) or cannot be interrupted, what ran before keeps its marks, and each cell from
    there on gets the reason as its error, so that its marks are 0. Cells of the course that no other cell needs are not
    run. Raises ValueError where there is no sandbox, unless
    `without_sandbox`.
    """

    raise_on_iopub_timeout = Bool(False, help="A flood of output is cut; the notebook goes on.").tag(config=True)
    iopub_timeout = Integer(10, help="Seconds to wait for what a cell printed, after it ended.").tag(config=True)
    timeout = Integer(300, allow_none=True, help="Seconds that one cell may run.").tag(config=True)
    seconds = Integer(LIMITS["seconds"], help="Seconds that one notebook may run.").tag(config=True)
    memory = Integer(LIMITS["memory"], help="MiB of memory of a submission, all processes.").tag(config=True)
    processes = Integer(LIMITS["processes"], help="Processes and threads of a submission.").tag(config=True)
    without_sandbox = Bool(False, help="Run submissions with the teacher's rights.").tag(config=True)

    def preprocess(self, nb, resources):
        if not self.without_sandbox and (found := sandbox.trouble()):
            raise ValueError(sandbox.WHY.format(found))
        released = self.released(resources)
        self.asked, self.answered, self.course = sources(released), sources(nb), course_cells(released)
        self.needed = self.needed_of(nb.cells)
        kept = nb.metadata.get("vit_tutorial")
        notes = kept.get("notes") if isinstance(kept, dict) else None  # of the repair, where there was one
        self.told = [*map(str, notes)] if isinstance(notes, list) else []
        once, about = copy.deepcopy(nb), copy.deepcopy(resources)
        nb, resources = self.run(nb, resources)
        if self.missed(nb.cells):
            self.needed = range(len(nb.cells))
            nb, resources = self.run(once, about)
        if self.left_out(nb.cells):
            nb.cells.insert(0, new_markdown_cell(LEFT_OUT))
        return nb, resources

    def run(self, nb, resources):
        """Run the cells that are needed, in a new kernel."""
        self.ended, self.received, self.imported, self.restless = None, 0, [], False
        nb.metadata["vit_tutorial"] = {"notes": [*self.told]}
        self.notes = nb.metadata["vit_tutorial"]["notes"]  # the notebook keeps a copy
        # A short name, for that of a socket has at most 107 bytes.
        with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as self.folder:
            return super().preprocess(nb, resources)

    def left_out(self, cells):
        """The code that is not run."""
        return [cell.source for n, cell in enumerate(cells) if cell.cell_type == "code" and n not in self.needed]

    def missed(self, cells):
        """The names that something has looked for in vain and that a cell which was left out binds."""
        said = [str(cell.metadata.get("vit_tutorial", {}).get("message", "")) for cell in cells]
        said += [str(output.get("evalue", "")) for cell in cells for output in cell.get("outputs", [])]
        return {*re.findall(r"name '(\w+)' is not defined", " ".join(said))} & bound_in(self.left_out(cells))

    def needed_of(self, cells):
        """The numbers of the cells that are run: those that are not as the course has them, and what they need."""
        code = [cell.source if cell.cell_type == "code" else "" for cell in cells]
        ids = [grade_id(cell) for cell in cells]
        known = [
            name not in self.asked and essence(source) in self.course for name, source in zip(ids, code, strict=True)
        ]
        return needed(code, [n for n, source in enumerate(code) if source.strip() and not known[n]])

    def released(self, resources):
        """The notebook as it was handed out. Raises ValueError where it is no longer there."""
        about, course = resources["nbgrader"], self.parent.parent.coursedir
        folder = course.format_path(course.release_directory, ".", about["assignment"])
        path = Path(folder, f"{about['notebook']}.ipynb")
        if not path.is_file():
            raise ValueError(f"expected the notebook as it was handed out, {path}, found none; release it again")
        return nbformat.read(path, 4)

    def create_kernel_manager(self):
        settings = {"limits": {name: getattr(self, name) for name in LIMITS}, "without": self.without_sandbox}
        self.km = SandboxedKernelManager(self.folder, settings, config=self.config)
        return self.km

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type != "code" or index not in self.needed:
            return cell, resources
        about = cell.metadata.get("nbgrader", {})
        graded = about.get("grade") and about.get("grade_id") in self.asked
        if self.ended is None:
            try:
                self.before(cell, index)
                cell, resources = super().preprocess_cell(cell, resources, index)
                if any(output.get("ename") == "CellTimeoutError" for output in cell.get("outputs", [])):
                    run_sync(self.wait_for_end)()
                if graded:
                    self.mark(cell)
                return cell, resources
            except DeadKernelError:
                self.ended = self.ended or self.km.why()
            except TimeoutError:
                self.ended = "time: a cell ran too long and could not be interrupted"
        stopped = f"Stopped. {self.ended}"
        cell.outputs = [new_output("error", ename="Stopped", evalue=self.ended, traceback=[stopped])]
        if graded:
            cell.metadata["vit_tutorial"] = {"passed": False, "mistakes": [], "attempted": True, "message": stopped}
        return cell, resources

    def before(self, cell, index):
        """Before a cell of the course's own, put back what earlier ones have imported, whatever became of the names."""
        self.of_this_cell, code = 0, essence(cell.source)
        if code not in self.course:
            self.restless = True
            if found := READ_IT.search(cell.source):
                told = f"Cell {index + 1} uses {found[0]}, which no exercise needs"
                self.notes.append(f"{told}; a person should look at why (worth reading).")
            return
        if self.restless and self.imported:
            lines = "".join(f"try:\n    {line}\nexcept Exception:\n    pass\n" for line in self.imported)
            self.request(lines)
            self.restless = False
        self.imported += self.course[code]

    def request(self, code, **expressions):
        """Run code of the teacher's in the kernel, and return what the expressions give, as the kernel says it."""
        number = self.kc.execute(code, silent=True, store_history=False, user_expressions=expressions)
        reply = self.wait_for_reply(number)
        if reply is None:  # interrupted
            run_sync(self.wait_for_end)()
        return reply["content"].get("user_expressions", {}) if reply else {}

    def mark(self, cell):
        """Judge the answers of a graded cell, and put their points where nbgrader looks for them, first in its output.

        Answer cells that are as they were handed out get nothing.
        """
        about = cell.metadata["nbgrader"]
        number, points = number_of(about["grade_id"]), about["points"]
        stubs = [name for name in self.asked if name.startswith("answer-") and number_of(name) == number]
        changed = any(essence(self.answered.get(name, self.asked[name])) != essence(self.asked[name]) for name in stubs)
        answers = answers_in(self.asked[about["grade_id"]])
        results = [self.verdict(name, answer) for name, answer in answers] if changed else []
        passed, printed = sum(result.passed for result in results), self.printed(cell)
        mark = f"{points * passed / len(answers):g}"
        wrong = [result for result in results if not result.passed]
        cell.metadata["vit_tutorial"] = {
            "passed": passed == len(answers),
            "mistakes": [name for result in wrong for name in (result.mistake or "").split(" + ") if name],
            "attempted": any(result.mistake != "not attempted" for result in results),
            "message": " ".join(result.message for result in results) or "Not attempted: the answer is still the stub.",
        }
        if (printed == len(answers)) != (passed == len(answers)):
            says = "Passed" if printed == len(answers) else "no Passed"
            told = f"Exercise {number}: the cell printed {says}, but its mark is {mark} of {points:g}"
            self.notes.append(f"{told}; a person should look at why (worth reading).")
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.output_type = "display_data"
                del output["execution_count"]
        count = cell.get("execution_count")
        cell.outputs.insert(0, new_output("execute_result", data={"text/plain": mark}, execution_count=count))

    @staticmethod
    def printed(cell):
        """How many answers pass, as the cell itself says."""
        text = "\n".join(output.text for output in cell.outputs if output.output_type == "stream")
        return len(re.findall(r"^Passed\. ", text, re.MULTILINE))

    def verdict(self, name, answer):
        """The `CheckResult` of an answer (code of the teacher's): that of the first round in which it does not pass."""
        for _ in range(ROUNDS):
            seed, nonce = secrets.randbits(47), secrets.token_hex()
            reply = self.request("", given=ASK.format(name, answer, seed, nonce)).get("given")
            text = reply["data"].get(MIME) if isinstance(reply, dict) and isinstance(reply.get("data"), dict) else None
            result = judging.verdict_on(name, text, nonce, seed)
            if not result.passed:
                break
        return result

    async def wait_for_end(self):
        """Wait until the kernel has ended its cell: then it answers. Raises TimeoutError where it does not."""
        await self.kc.kernel_info(reply=True, timeout=GRACE)

    def process_message(self, msg, cell, cell_index):
        content, kind = msg["content"], msg["msg_type"]
        if kind in ("stream", "display_data", "execute_result", "update_display_data", "comm_open", "comm_msg"):
            text = content.get("text") if kind == "stream" else None
            size = len(text if isinstance(text, str) else str(content))
            left = min(MOST_OF_A_CELL - self.of_this_cell, MOST_OUTPUT - self.received)
            self.of_this_cell, self.received = self.of_this_cell + size, self.received + min(size, max(left, 0))
            if left <= 0:
                return None
            if size > left:
                of = ("a cell", MOST_OF_A_CELL) if self.of_this_cell > MOST_OF_A_CELL else ("the notebook", MOST_OUTPUT)
                msg["msg_type"] = msg["header"]["msg_type"] = "stream"
                cut = (text[:left] if isinstance(text, str) else "") + CUT.format(of[1] >> 20, of[0])
                msg["content"] = {"name": content.get("name", "stdout"), "text": cut}
        elif kind == "error":
            content["evalue"] = str(content.get("evalue"))[:10_000]
            content["traceback"] = [str(line)[:10_000] for line in content.get("traceback", [])[:100]]
        return super().process_message(msg, cell, cell_index)
