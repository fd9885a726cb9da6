"""How nbgrader executes a submission: in a kernel inside the sandbox, and to the end whatever the submission does.

The course's `nbgrader_config.py` puts `SandboxedExecute` in the place of nbgrader's own `Execute`, so `nbgrader
autograde`, the formgrader and `vit-tutorial classroom --grade` all take this way.
"""

import json
import sys
import tempfile
from pathlib import Path

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbclient.util import run_sync
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from traitlets import Bool, Integer

from . import sandbox
from .sandbox import LIMITS

GRACE = 10  # seconds that an interrupted cell may take to end
MOST_OUTPUT = 20 << 20  # bytes of output of a whole notebook that the grading process takes in


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
    there on gets the reason as its error, so that its marks are 0. Raises ValueError where there is no sandbox, unless
    `without_sandbox`.
    """

    iopub_timeout = Integer(10, help="Seconds to wait for what a cell printed, after it ended.").tag(config=True)
    timeout = Integer(300, allow_none=True, help="Seconds that one cell may run.").tag(config=True)
    seconds = Integer(LIMITS["seconds"], help="Seconds that one notebook may run.").tag(config=True)
    memory = Integer(LIMITS["memory"], help="MiB of memory of a submission, all processes.").tag(config=True)
    processes = Integer(LIMITS["processes"], help="Processes and threads of a submission.").tag(config=True)
    without_sandbox = Bool(False, help="Run submissions with the teacher's rights.").tag(config=True)

    def preprocess(self, nb, resources):
        if not self.without_sandbox and (found := sandbox.trouble()):
            raise ValueError(sandbox.WHY.format(found))
        self.ended, self.received = None, 0
        # A short name, for that of a socket has at most 107 bytes.
        with tempfile.TemporaryDirectory(prefix="kernel-", ignore_cleanup_errors=True) as self.folder:
            return super().preprocess(nb, resources)

    def create_kernel_manager(self):
        settings = {"limits": {name: getattr(self, name) for name in LIMITS}, "without": self.without_sandbox}
        self.km = SandboxedKernelManager(self.folder, settings, config=self.config)
        return self.km

    def preprocess_cell(self, cell, resources, index):
        if self.ended is None:
            try:
                cell, resources = super().preprocess_cell(cell, resources, index)
                if any(output.get("ename") == "CellTimeoutError" for output in cell.get("outputs", [])):
                    run_sync(self.wait_for_end)()
                return cell, resources
            except DeadKernelError:
                self.ended = self.ended or self.km.why()
            except TimeoutError:
                self.ended = "time: a cell ran too long and could not be interrupted"
        if cell.cell_type == "code":
            stopped = f"Stopped. {self.ended}"
            cell.outputs = [new_output("error", ename="Stopped", evalue=self.ended, traceback=[stopped])]
        return cell, resources

    async def wait_for_end(self):
        """Wait until the kernel has ended its cell: then it answers. Raises TimeoutError where it does not."""
        await self.kc.kernel_info(reply=True, timeout=GRACE)

    def process_message(self, msg, cell, cell_index):
        self.received += len(str(msg["content"]))
        if self.received > MOST_OUTPUT:
            self.ended = f"output: more than {MOST_OUTPUT >> 20} MiB"
            self.task_poll_for_reply.cancel()  # as nbclient does where the kernel is dead
            return None
        return super().process_message(msg, cell, cell_index)
