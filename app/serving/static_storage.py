"""Static files under names that hold their hash: browsers keep them for ever and never mix two releases."""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # untyped library
    """Also rewrites what a JavaScript module imports: the browser asks for the hashed name there, too."""

    support_js_module_import_aggregation = True
