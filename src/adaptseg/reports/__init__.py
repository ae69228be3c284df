"""The report page: one HTML file on a run or several, with all of its charts and pictures inside."""
