"""`paradise figure`: the paper's figures, of any model that fits."""

from paradise_cli.cli import figure_arithmetic, figure_classifiers, figure_latents, figure_runs
from paradise_cli.cli.entry import App

app = App(no_args_is_help=True, help="The paper's figures of any model, as pictures and data.")

app.command()(figure_latents.ellipses)
app.command()(figure_latents.serial)
app.command()(figure_arithmetic.arithmetic)
app.command()(figure_runs.curves)
app.command()(figure_runs.plane)
app.command()(figure_classifiers.surface)
app.command()(figure_classifiers.targets)
app.command()(figure_classifiers.gradients)
app.command()(figure_classifiers.orthogonality)
