"""What strategies learn from trials with: regression models, and what they say of candidates.

    targets       trials as numbers to learn, constraints included
    candidates    architectures to choose from
    rounds        random trials first, then one ranking of candidates after another
    kernels       how alike two architectures are
    gaussian      Gaussian processes
    beliefs       what they expect of every objective and constraint
    improvement   expected improvement, of a loss or of a hypervolume
    networks      ensembles of small neural networks, trained together

numpy and scipy only.
"""
