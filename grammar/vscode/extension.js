// Shows what `recc check --format json` finds in a .rec file, when it is opened and when it is saved.
const { execFile } = require("node:child_process");
const path = require("node:path");
const vscode = require("vscode");

/** Problems by file, from the compiler's list. */
function byFile(problems, folder) {
    const files = new Map();
    for (const problem of problems) {
        const [place, ...others] = problem.places;
        if (!place) continue;
        const range = (own) => new vscode.Range(own.line - 1, own.column - 1, own.end_line - 1, own.end_column - 1);
        const uri = (own) => vscode.Uri.file(path.resolve(folder, own.file));
        const text = [problem.message, place.text, problem.help && `help: ${problem.help}`].filter(Boolean).join("\n");
        const severity = problem.severity === "error" ? vscode.DiagnosticSeverity.Error : vscode.DiagnosticSeverity.Warning;
        const diagnostic = new vscode.Diagnostic(range(place), text, severity);
        diagnostic.code = problem.code;
        diagnostic.source = "recc";
        diagnostic.relatedInformation = others.map(
            (own) => new vscode.DiagnosticRelatedInformation(new vscode.Location(uri(own), range(own)), own.text),
        );
        const key = uri(place).toString();
        files.set(key, [...(files.get(key) ?? []), diagnostic]);
    }
    return files;
}

function activate(context) {
    const collection = vscode.languages.createDiagnosticCollection("recc");
    // Files in which the check of a spec found something: what it imports may be among them.
    const reported = new Map();
    const check = (document) => {
        if (document.languageId !== "rec" || document.uri.scheme !== "file") return;
        const command = vscode.workspace.getConfiguration("rec").get("command", "recc");
        const folder = path.dirname(document.fileName);
        execFile(command, ["check", "--format", "json", document.fileName], { cwd: folder }, (error, output, messages) => {
            let problems;
            try {
                problems = JSON.parse(output);
            } catch {
                vscode.window.showWarningMessage(`recc: ${messages || error?.message || "no answer"} (setting rec.command)`);
                return;
            }
            const own = document.uri.toString();
            const found = byFile(problems, folder);
            for (const file of reported.get(own) ?? []) collection.delete(vscode.Uri.parse(file));
            for (const [file, diagnostics] of found) collection.set(vscode.Uri.parse(file), diagnostics);
            reported.set(own, [...found.keys()]);
        });
    };
    const close = (document) => {
        for (const file of reported.get(document.uri.toString()) ?? []) collection.delete(vscode.Uri.parse(file));
        reported.delete(document.uri.toString());
    };
    context.subscriptions.push(
        collection,
        vscode.workspace.onDidOpenTextDocument(check),
        vscode.workspace.onDidSaveTextDocument(check),
        vscode.workspace.onDidCloseTextDocument(close),
    );
    vscode.workspace.textDocuments.forEach(check);
}

module.exports = { activate };
