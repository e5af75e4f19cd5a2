"""Training, and the measuring of what was trained. `tee` shows the progress of what takes long."""


rule train_classifier:
    input:
        script=script("train_classifier.py"),
        modules=modules("train_classifier.py"),
        data="data/cifar10.npz",
    output:
        training_outputs("cifar10"),
    log:
        logs("train_classifier/{training}/seed_{seed}.log"),
    benchmark:
        benchmarks("train_classifier/{training}/seed_{seed}.tsv")
    wildcard_constraints:
        training=one_of(trainings_on("cifar10")),
    conda:
        "../../environment.yml"
    threads: lambda wildcards: merged(wildcards.training)["threads"]
    resources:
        mem_mb=8000,
        gpu=uses_gpu(),
        runtime=lambda wildcards, attempt: 120 * attempt,
    params:
        settings=lambda wildcards: as_json(training_settings(wildcards.training)),
        device=untracked(config["device"]),
        # Not an output: Snakemake removes outputs before a rerun, and this is what a rerun goes on from.
        resume=resume_folder,
        out=results("trainings/{training}/seed_{seed}"),
    message:
        "Training {wildcards.training}, seed {wildcards.seed}"
    shell:
        "python {input.script:q} --data {input.data} --settings {params.settings:q} --seed {wildcards.seed} "
        "--device {params.device} --resume {params.resume} --out {params.out} 2>&1 | tee {log}"


use rule train_classifier as train_segmenter with:
    input:
        script=script("train_segmenter.py"),
        modules=modules("train_segmenter.py"),
        data="data/camvid.npz",
    output:
        training_outputs("camvid"),
    log:
        logs("train_segmenter/{training}/seed_{seed}.log"),
    benchmark:
        benchmarks("train_segmenter/{training}/seed_{seed}.tsv")
    wildcard_constraints:
        training=one_of(trainings_on("camvid")),


rule measure_snapshots:
    input:
        script=script("measure_snapshots.py"),
        modules=modules("measure_snapshots.py"),
        data=dataset_of,
        snapshots=snapshots_of,
    output:
        out=results("erf/{training}/seed_{seed}.npz"),
        table=results("erf/{training}/seed_{seed}.csv"),
        provenance=record(results("erf/{training}/seed_{seed}.npz")),
    log:
        logs("measure_snapshots/{training}/seed_{seed}.log"),
    benchmark:
        benchmarks("measure_snapshots/{training}/seed_{seed}.tsv")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=8000,
        gpu=uses_gpu(),
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        settings=lambda wildcards: as_json(training_settings(wildcards.training)),
        images=lambda wildcards: merged(wildcards.training)["measure_images"],
        device=untracked(config["device"]),
    message:
        "Effective receptive fields of {wildcards.training}, seed {wildcards.seed}"
    shell:
        "python {input.script:q} --snapshots {input.snapshots} --data {input.data} --settings {params.settings:q} "
        "--seed {wildcards.seed} --images {params.images} --device {params.device} --threads {threads} "
        "--out {output.out} > {log} 2>&1"


use rule measure_snapshots as measure_units with:
    input:
        script=script("measure_units.py"),
        modules=modules("measure_units.py"),
        data=dataset_of,
        snapshots=expand(results("trainings/{{training}}/seed_{{seed}}/{snapshot}.pt"), snapshot=["epoch_000", "best"]),
    output:
        out=results("units/{training}/seed_{seed}.csv"),
        provenance=record(results("units/{training}/seed_{seed}.csv")),
    log:
        logs("measure_units/{training}/seed_{seed}.log"),
    benchmark:
        benchmarks("measure_units/{training}/seed_{seed}.tsv")
    message:
        "Other units and layers of {wildcards.training}, seed {wildcards.seed}"


rule train_reach:
    input:
        script=script("train_reach.py"),
        modules=modules("train_reach.py"),
    output:
        out=results("reach/{reach}/seed_{seed}.csv"),
        provenance=record(results("reach/{reach}/seed_{seed}.csv")),
    log:
        logs("train_reach/{reach}/seed_{seed}.log"),
    benchmark:
        benchmarks("train_reach/{reach}/seed_{seed}.tsv")
    conda:
        "../../environment.yml"
    threads: lambda wildcards: reach_settings(wildcards.reach)["threads"]
    resources:
        mem_mb=6000,
        gpu=uses_gpu(),
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        settings=lambda wildcards: as_json(without(reach_settings(wildcards.reach), "seeds")),
        device=untracked(config["device"]),
        resume=lambda wildcards: state_folder(
            wildcards.reach, wildcards.seed, without(reach_settings(wildcards.reach), "seeds"), "train_reach.py"
        ),
    message:
        "Reach of {wildcards.reach}, seed {wildcards.seed}"
    shell:
        "python {input.script:q} --settings {params.settings:q} --seed {wildcards.seed} --device {params.device} "
        "--resume {params.resume} --out {output.out} > {log} 2>&1"
