"""Figures: each a script and its data, written as .png, .pdf and the .csv of what it plots."""


rule figure_convolution:
    input:
        script=script("figure_convolution.py"),
        modules=modules("figure_convolution.py"),
    output:
        png=shown("convolution"),
        pdf=figures("convolution.pdf"),
        csv=figures("convolution.csv"),
        provenance=record(figures("convolution.png")),
    log:
        logs("figure_convolution.log"),
    benchmark:
        benchmarks("figure_convolution.tsv")
    conda:
        "../../environment.yml"
    params:
        kernels=lambda wildcards: figure_settings("convolution")["kernels"],
        depths=lambda wildcards: figure_settings("convolution")["depths"],
    message:
        "Figure: the theory's left column: Fourier transform, coefficients, limit"
    shell:
        "python {input.script:q} --kernels {params.kernels} --depths {params.depths} --out {output.png} > {log} 2>&1"


rule figure_gaussian_shape:
    input:
        script=script("figure_gaussian_shape.py"),
        modules=modules("figure_gaussian_shape.py"),
        fields=lambda wildcards: network_fields("gaussian_shape"),
    output:
        png=shown("gaussian_shape"),
        pdf=figures("gaussian_shape.pdf"),
        csv=figures("gaussian_shape.csv"),
        provenance=record(figures("gaussian_shape.png")),
    log:
        logs("figure_gaussian_shape.log"),
    benchmark:
        benchmarks("figure_gaussian_shape.tsv")
    conda:
        "../../environment.yml"
    params:
        depths=lambda wildcards: figure_settings("gaussian_shape")["depths"],
    message:
        "Figure: Gaussian shape"
    shell:
        "python {input.script:q} --fields {input.fields} --depths {params.depths} --out {output.png} > {log} 2>&1"


rule figure_nonlinearity:
    input:
        script=script("figure_nonlinearity.py"),
        modules=modules("figure_nonlinearity.py"),
        fields=lambda wildcards: network_fields("nonlinearity"),
    output:
        png=shown("nonlinearity"),
        pdf=figures("nonlinearity.pdf"),
        csv=figures("nonlinearity.csv"),
        provenance=record(figures("nonlinearity.png")),
    log:
        logs("figure_nonlinearity.log"),
    benchmark:
        benchmarks("figure_nonlinearity.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: nonlinear activations"
    shell:
        "python {input.script:q} --fields {input.fields} --out {output.png} > {log} 2>&1"


rule figure_structures:
    input:
        script=script("figure_structures.py"),
        modules=modules("figure_structures.py"),
        fields=lambda wildcards: network_fields("structures"),
    output:
        png=shown("structures"),
        pdf=figures("structures.pdf"),
        csv=figures("structures.csv"),
        provenance=record(figures("structures.png")),
    log:
        logs("figure_structures.log"),
    benchmark:
        benchmarks("figure_structures.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: subsampling, dilation, skip connections, dropout"
    shell:
        "python {input.script:q} --fields {input.fields} --out {output.png} > {log} 2>&1"


rule figure_growth:
    input:
        script=script("figure_growth.py"),
        modules=modules("figure_growth.py"),
        fields=lambda wildcards: network_fields("growth"),
        slopes=results("growth_slopes.csv"),
    output:
        png=shown("growth"),
        pdf=figures("growth.pdf"),
        csv=figures("growth.csv"),
        provenance=record(figures("growth.png")),
    log:
        logs("figure_growth.log"),
    benchmark:
        benchmarks("figure_growth.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: growth of the ERF with depth"
    shell:
        "python {input.script:q} --fields {input.fields} --slopes {input.slopes} --out {output.png} > {log} 2>&1"


rule figure_sensitivity:
    input:
        script=script("figure_sensitivity.py"),
        modules=modules("figure_sensitivity.py"),
        slopes=results("growth_slopes.csv"),
        readings=network_tables(config["slopes"]["networks"]),
        positions=lambda wildcards: network_tables(figure_settings("sensitivity")["networks"]),
        samples=[results(f"slope_samples/{name}.csv") for name in config["slopes"]["samples"]["networks"]],
    output:
        png=shown("sensitivity"),
        pdf=figures("sensitivity.pdf"),
        csv=figures("sensitivity.csv"),
        provenance=record(figures("sensitivity.png")),
    log:
        logs("figure_sensitivity.log"),
    benchmark:
        benchmarks("figure_sensitivity.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: what depends on readings of the paper"
    shell:
        "python {input.script:q} --slopes {input.slopes} --readings {input.readings} "
        "--positions {input.positions} --samples {input.samples} --out {output.png} > {log} 2>&1"


rule figure_reach:
    input:
        script=script("figure_reach.py"),
        modules=modules("figure_reach.py"),
        tables=lambda wildcards: results_of_seeds("reach", "reach", "reach/{name}/seed_{seed}.csv"),
    output:
        png=shown("reach"),
        pdf=figures("reach.pdf"),
        csv=figures("reach.csv"),
        provenance=record(figures("reach.png")),
    log:
        logs("figure_reach.log"),
    benchmark:
        benchmarks("figure_reach.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: how far a unit can use its receptive field"
    shell:
        "python {input.script:q} --tables {input.tables} --out {output.png} > {log} 2>&1"


rule figure_before_after:
    input:
        script=script("figure_before_after.py"),
        modules=modules("figure_before_after.py"),
        data=lambda wildcards: datasets_of("before_after"),
        fields=lambda wildcards: results_of_seeds("before_after", "trainings", "erf/{name}/seed_{seed}.npz"),
    output:
        png=shown("before_after"),
        pdf=figures("before_after.pdf"),
        csv=figures("before_after.csv"),
        provenance=record(figures("before_after.png")),
    log:
        logs("figure_before_after.log"),
    benchmark:
        benchmarks("figure_before_after.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: ERF before and after training"
    shell:
        "python {input.script:q} --fields {input.fields} --data {input.data} --out {output.png} > {log} 2>&1"


rule figure_evolution:
    input:
        script=script("figure_evolution.py"),
        modules=modules("figure_evolution.py"),
        sizes=lambda wildcards: results_of_seeds("evolution", "trainings", "erf/{name}/seed_{seed}.csv"),
        metrics=lambda wildcards: results_of_seeds("evolution", "trainings", "trainings/{name}/seed_{seed}/metrics.csv"),
    output:
        png=shown("evolution"),
        pdf=figures("evolution.pdf"),
        csv=figures("evolution.csv"),
        provenance=record(figures("evolution.png")),
    log:
        logs("figure_evolution.log"),
    benchmark:
        benchmarks("figure_evolution.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: ERF size during training"
    shell:
        "python {input.script:q} --sizes {input.sizes} --metrics {input.metrics} --out {output.png} > {log} 2>&1"


rule figure_convergence:
    input:
        script=script("figure_convergence.py"),
        modules=modules("figure_convergence.py"),
        sizes=lambda wildcards: results_of_seeds("convergence", "trainings", "erf/{name}/seed_{seed}.csv"),
    output:
        png=shown("convergence"),
        pdf=figures("convergence.pdf"),
        csv=figures("convergence.csv"),
        provenance=record(figures("convergence.png")),
    log:
        logs("figure_convergence.log"),
    benchmark:
        benchmarks("figure_convergence.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: ERF diameter during training, from three starts"
    shell:
        "python {input.script:q} --sizes {input.sizes} --out {output.png} > {log} 2>&1"


rule figure_units:
    input:
        script=script("figure_units.py"),
        modules=modules("figure_units.py"),
        tables=lambda wildcards: results_of_seeds("units", "trainings", "units/{name}/seed_{seed}.csv"),
    output:
        png=shown("units"),
        pdf=figures("units.pdf"),
        csv=figures("units.csv"),
        provenance=record(figures("units.png")),
    log:
        logs("figure_units.log"),
    benchmark:
        benchmarks("figure_units.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: other units, layers and images"
    shell:
        "python {input.script:q} --tables {input.tables} --out {output.png} > {log} 2>&1"


rule figure_models:
    input:
        script=script("figure_models.py"),
        modules=modules("figure_models.py"),
        fields=lambda wildcards: model_fields("models"),
    output:
        png=shown("models"),
        pdf=figures("models.pdf"),
        csv=figures("models.csv"),
        provenance=record(figures("models.png")),
    log:
        logs("figure_models.log"),
    benchmark:
        benchmarks("figure_models.tsv")
    conda:
        "../../environment.yml"
    message:
        "Figure: models compared"
    shell:
        "python {input.script:q} --fields {input.fields} --out {output.png} > {log} 2>&1"


rule figure_initialization:
    input:
        script=script("figure_initialization.py"),
        modules=modules("figure_initialization.py"),
        fields=lambda wildcards: network_fields("initialization"),
        sizes=lambda wildcards: results_of_seeds("initialization", "trainings", "erf/{name}/seed_{seed}.csv"),
        metrics=lambda wildcards: results_of_seeds(
            "initialization", "trainings", "trainings/{name}/seed_{seed}/metrics.csv"
        ),
    output:
        png=shown("initialization"),
        pdf=figures("initialization.pdf"),
        csv=figures("initialization.csv"),
        provenance=record(figures("initialization.png")),
    log:
        logs("figure_initialization.log"),
    benchmark:
        benchmarks("figure_initialization.tsv")
    conda:
        "../../environment.yml"
    params:
        scores=lambda wildcards: as_json(figure_settings("initialization")["scores"]),
    message:
        "Figure: kernels light in their middle"
    shell:
        "python {input.script:q} --fields {input.fields} --sizes {input.sizes} --metrics {input.metrics} "
        "--scores {params.scores:q} --out {output.png} > {log} 2>&1"
