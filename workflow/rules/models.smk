"""Any model: what a unit of it sees, before training or after."""


rule measure_model:
    input:
        script=script("measure_model.py"),
        modules=modules("measure_model.py"),
        files=lambda wildcards: model_files(wildcards.model),
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
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        settings=lambda wildcards: as_json(model_settings(wildcards.model)),
        trust=lambda wildcards: trust_options(wildcards.model),
        device=untracked(config["device"]),
    message:
        "Effective receptive field of {wildcards.model}"
    shell:
        "python {input.script:q} --name {wildcards.model} --settings {params.settings:q} --device {params.device} "
        "--threads {threads} {params.trust} --out {output.fields} > {log} 2>&1"
