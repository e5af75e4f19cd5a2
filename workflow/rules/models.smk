"""Any model: what a unit of it sees, before training or after."""


rule measure_model:
    input:
        **program("measure_model"),
        files=lambda wildcards: run.model_files(wildcards.model),
    output:
        fields=results("models/{model}.npz"),
        table=results("models/{model}.csv"),
        provenance=record(results("models/{model}.npz")),
    log:
        logs("measure_model/{model}.log"),
    benchmark:
        benchmarks("measure_model/{model}.tsv")
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=6000,
        gpu=uses_gpu(),
        runtime=minutes(20),
    params:
        **run.given(
            "models/{model}", lambda wildcards: {"name": wildcards.model, **configuration.model(wildcards.model)}
        ),
        trust=lambda wildcards: run.trust_options(wildcards.model),
        device=untracked(config["device"]),
    message:
        "Effective receptive field of {wildcards.model}"
    shell:
        "python {input.script:q} --settings {params.settings_file:q} --device {params.device} --threads {threads} "
        "{params.trust} --out {output.fields} > {log} 2>&1"
