"""What a finished grid is told as: the table, the figure, the page, and the runs of an experiment tracker."""
