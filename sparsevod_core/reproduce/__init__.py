"""The paper's ablations: trained, evaluated and written as tables and figures."""
