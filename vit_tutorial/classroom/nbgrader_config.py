"""nbgrader's settings for this course, written by `vit-tutorial classroom`; yours go below."""

from vit_tutorial.classroom.kernel import SandboxedExecute

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "vit_tutorial"
c.CourseDirectory.db_url = "sqlite:///gradebook.db?timeout=60"
c.ExecutePreprocessor.record_timing = False
# Stubs are the course's own, and a source holds no solutions that would have to be cut out.
c.GenerateAssignment.preprocessors = [
    "nbgrader.preprocessors." + name
    for name in ("LockCells", "ClearOutput", "CheckCellMetadata", "ComputeChecksums", "SaveCells")
] + ["nbgrader.preprocessors.ComputeChecksums", "nbgrader.preprocessors.CheckCellMetadata"]
# A cell with points that a student deleted comes back, and gives none.
c.OverwriteCells.add_missing_cells = True
# Students' code runs in the sandbox. Per cell: seconds; per notebook: seconds, MiB of memory, processes and threads.
c.Autograde.autograde_preprocessors = [
    SandboxedExecute,
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.ClearMetadataPreprocessor.preserve_cell_metadata_mask = {"nbgrader", "vit_tutorial"}
c.ClearMetadataPreprocessor.preserve_nb_metadata_mask = {("language_info", "name"), "vit_tutorial"}
# What was handed in stays as it is: nbgrader marks a repaired copy, and its feedback loads nothing from elsewhere.
c.Autograde.pre_convert_hook = "vit_tutorial.classroom.grading.check_submission"
c.Autograde.exporter_class = "vit_tutorial.classroom.grading.SubmissionExporter"
c.GenerateFeedback.exporter_class = "vit_tutorial.classroom.feedback.FeedbackPage"
# Late work: for each day begun after the time below, this part of the points earned is taken off. The time of handing
# in is that of the learning platform (`--collect`) or of nbgrader. A change counts from the next `--grade` on.
c.AssignLatePenalties.plugin_class = "vit_tutorial.classroom.results.LateRule"
c.LateRule.per_day = 0.1
c.LateRule.due = {}  # such as {"03_attention": "2026-12-01 18:00 Europe/Berlin"}
c.SandboxedExecute.timeout = 300
c.SandboxedExecute.seconds = 1800
c.SandboxedExecute.memory = 3072
c.SandboxedExecute.processes = 96
