"""Training, and the measuring of what was trained. The run shows the bars that long jobs draw in their logs."""

for dataset in DATASETS.values():

    rule:
        name:
            dataset.program
        input:
            **program(dataset.program),
            data=here.data(dataset.name),
        output:
            run.training_outputs(dataset.name),
        log:
            logs(f"{dataset.program}/{{training}}/seed_{{seed}}.log"),
        benchmark:
            benchmarks(f"{dataset.program}/{{training}}/seed_{{seed}}.tsv")
        wildcard_constraints:
            training=one_of(configuration.trainings_on(dataset.name)),
        conda:
            "../../environment.yml"
        threads: lambda wildcards: configuration.training(wildcards.training)["threads"]
        resources:
            mem_mb=8000,
            gpu=uses_gpu(),
            runtime=minutes(120 if uses_gpu() else 1440),
        params:
            **run.given("trainings/{training}", lambda wildcards: configuration.trained_by(wildcards.training)),
            device=untracked(config["device"]),
            # Not an output: Snakemake removes outputs before a rerun, and this is what a rerun goes on from.
            resume=lambda wildcards: run.training_state(wildcards.training, wildcards.seed),
            out=results("trainings/{training}/seed_{seed}"),
        message:
            "Training {wildcards.training}, seed {wildcards.seed}"
        shell:
            "python {input.script:q} --data {input.data} --settings {params.settings_file:q} --seed {wildcards.seed} "
            "--device {params.device} --resume {params.resume} --out {params.out} > {log} 2>&1"


rule measure_snapshots:
    input:
        **program("measure_snapshots"),
        data=lambda wildcards: run.data_of(wildcards.training),
        snapshots=lambda wildcards: [
            results(f"trainings/{wildcards.training}/seed_{wildcards.seed}/{stem}.pt")
            for stem in configuration.snapshots(configuration.dataset_of(wildcards.training))
        ],
    output:
        out=results("erf/{training}/seed_{seed}.npz"),
        table=results("erf/{training}/seed_{seed}.csv"),
        kernels=results("erf/{training}/seed_{seed}.tsv"),
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
        runtime=minutes(60),
    params:
        **run.given("trainings/{training}", lambda wildcards: configuration.trained_by(wildcards.training)),
        images=lambda wildcards: configuration.training(wildcards.training)["images"],
        device=untracked(config["device"]),
    message:
        "Effective receptive fields of {wildcards.training}, seed {wildcards.seed}"
    shell:
        "python {input.script:q} --snapshots {input.snapshots} --data {input.data} --settings {params.settings_file:q} "
        "--seed {wildcards.seed} --images {params.images} --device {params.device} --threads {threads} "
        "--out {output.out} > {log} 2>&1"


use rule measure_snapshots as measure_units with:
    input:
        **program("measure_units"),
        data=lambda wildcards: run.data_of(wildcards.training),
        snapshots=expand(results("trainings/{{training}}/seed_{{seed}}/{stem}.pt"), stem=["epoch_000", "best"]),
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
        **program("train_reach"),
    output:
        out=results("reach/{reach}/seed_{seed}.csv"),
        provenance=record(results("reach/{reach}/seed_{seed}.csv")),
    log:
        logs("train_reach/{reach}/seed_{seed}.log"),
    benchmark:
        benchmarks("train_reach/{reach}/seed_{seed}.tsv")
    conda:
        "../../environment.yml"
    threads: lambda wildcards: configuration.reach(wildcards.reach)["threads"]
    resources:
        mem_mb=6000,
        gpu=uses_gpu(),
        runtime=minutes(240),
    params:
        **run.given("reach/{reach}", lambda wildcards: without(configuration.reach(wildcards.reach), "seeds")),
        device=untracked(config["device"]),
        resume=lambda wildcards: run.reach_state(wildcards.reach, wildcards.seed),
    message:
        "Reach of {wildcards.reach}, seed {wildcards.seed}"
    shell:
        "python {input.script:q} --settings {params.settings_file:q} --seed {wildcards.seed} --device {params.device} "
        "--resume {params.resume} --out {output.out} > {log} 2>&1"
