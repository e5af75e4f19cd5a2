"""Understanding the Effective Receptive Field in Deep Convolutional Neural Networks (Luo et al., NIPS 2016), replicated.

snakemake --cores 8 all                                      the paper's scale
snakemake --cores 2 --configfile=config/quick.yaml all       minutes, no dataset, no GPU
snakemake --cores 1 figures/paper/growth.png                 one figure
"""

from snakemake.utils import min_version

min_version("9.27")


report: "workflow/report/overview.rst"


include: "workflow/rules/setup.smk"


wildcard_constraints:
    network=one_of(config["networks"]),
    model=one_of(config["models"]),
    training=one_of(config["trainings"]),
    reach=one_of(config["reach"]),
    question=one_of(config["questions"]),
    seed=one_of(configuration.all_seeds()),


localrules:
    all,


rule all:
    default_target: True
    input:
        lambda wildcards: run.all_files(),
    message:
        "All files of this configuration"


include: "workflow/rules/data.smk"
include: "workflow/rules/networks.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/replication.smk"


watch.watch(workflow, run)
