"""A linear probe by scikit-learn, Spearman's rho by SciPy, accuracy by scikit-learn's metrics.

Peer: scikit-learn, scipy. Reads {"features": [[..]], "labels": [..], "test": [[..]], "truth": [..], "c": C, "x": [..], "y": [..]}
from standard input and prints {"logits": [[..]], "value": .., "rho": .., "top1": .., "mean_per_class": ..}.
"""

import json
import sys

import numpy as np
from scipy.special import logsumexp
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score

given = json.load(sys.stdin)
x, y = np.array(given["features"], "f8"), np.array(given["labels"])
test, truth = np.array(given["test"], "f8"), np.array(given["truth"])
model = LogisticRegression(C=given["c"], tol=1e-12, max_iter=100_000).fit(x, y)
logits = model.decision_function(x)
loss = (logsumexp(logits, 1) - logits[np.arange(len(y)), y]).mean()
guesses = model.predict(test)
print(
    json.dumps(
        {
            "logits": model.decision_function(test).tolist(),
            "value": loss + (model.coef_**2).sum() / (2 * given["c"] * len(y)),
            "rho": spearmanr(given["x"], given["y"]).statistic,
            "top1": accuracy_score(truth, guesses),
            "mean_per_class": balanced_accuracy_score(truth, guesses),
        }
    )
)
