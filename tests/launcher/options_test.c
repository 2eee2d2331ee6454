/* The grammar of the command line: what words become, and what is refused with which sentence. */
#include "front/front.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "suggest.h"

enum { TEXT = 1024, WORDS = 32 };

static struct command_line line;
static struct error error;

static void append(char *text, const char *more, size_t length)
{
    size_t used = strlen(text);

    if (used + length < TEXT) {
        memcpy(text + used, more, length);
        text[used + length] = '\0';
    }
}

static void append_use(char *text, const struct option_value *use)
{
    const char *name = option_table[use->id].names;

    append(text, " ", 1);
    if (strcmp(name, "--") == 0)
        append(text, use->name, strcspn(use->name, "="));
    else
        append(text, name, strcspn(name, ","));
    if (use->text != NULL) {
        append(text, "=", 1);
        append(text, use->text, strlen(use->text));
    }
}

/* The parsed line in one text: kind, verb, uses of options, ";" and what is left. */
static const char *described(void)
{
    static const char *const kinds[] = {"launch", "help", "version", "bare version", "other"};
    static char text[TEXT];

    text[0] = '\0';
    append(text, kinds[line.kind], strlen(kinds[line.kind]));
    if (line.kind == LINE_LAUNCH) {
        append(text, " ", 1);
        append(text, scope_verb(line.scope), strlen(scope_verb(line.scope)));
    }
    for (uint32_t i = 0; i < line.options.count; i++)
        append_use(text, &line.options.values[i]);
    append(text, ";", 1);
    for (char *const *word = line.rest; *word != NULL; word++) {
        append(text, " ", 1);
        append(text, *word, strlen(*word));
    }
    return text;
}

/* Cuts at blanks; "''" is an empty word. */
static bool parse(const char *words)
{
    static char copy[TEXT];
    static char *list[WORDS];
    size_t count = 0;

    memset(&line, 0, sizeof line);
    error = (struct error){.number = 0};
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        list[count++] = strcmp(word, "''") == 0 ? word + 2 : word;
    list[count] = NULL;
    return command_line_parse(list, &line, &error);
}

static void means(const char *words, const char *wanted)
{
    bool accepted = parse(words);
    const char *got = accepted ? described() : error.text;

    CHECK(accepted && strcmp(got, wanted) == 0, "\"%s\" means \"%s\"%s%s", words, wanted,
          strcmp(got, wanted) == 0 ? "" : " and not ", strcmp(got, wanted) == 0 ? "" : got);
}

static void refused(const char *words, const char *sentence)
{
    bool accepted = parse(words);

    CHECK(!accepted && strcmp(error.text, sentence) == 0, "\"%s\" is refused: %s%s%s", words, sentence,
          strcmp(error.text, sentence) == 0 ? "" : " ; got: ", strcmp(error.text, sentence) == 0 ? "" : error.text);
}

static void test_grammar(void)
{
    means("exec img ls", "launch exec; img ls");
    means("exec img ls -l --bind x -- y", "launch exec; img ls -l --bind x -- y");
    means("exec -B /a img ls", "launch exec --bind=/a; img ls");
    means("exec -B/a img ls", "launch exec --bind=/a; img ls");
    means("exec -B=/a img ls", "launch exec --bind=/a; img ls");
    means("exec --bind /a img", "launch exec --bind=/a; img");
    means("exec --bind=/a=b img", "launch exec --bind=/a=b; img");
    means("exec -B /a -B /b img", "launch exec --bind=/a --bind=/b; img");
    means("exec -Ce img", "launch exec --containall --cleanenv; img");
    means("exec -CeB/a img", "launch exec --containall --cleanenv --bind=/a; img");
    means("exec -CeB /a img", "launch exec --containall --cleanenv --bind=/a; img");
    means("exec -B --contain img ls", "launch exec --bind=--contain; img ls");
    means("exec --pid=false img", "launch exec --pid=false; img");
    means("exec -p=0 img", "launch exec --pid=0; img");
    means("exec -- -img ls", "launch exec; -img ls");
    means("exec -p -- img -- ls", "launch exec --pid; img -- ls");
    means("exec - ls", "launch exec; - ls");
    means("exec", "launch exec;");
    means("exec '' ls", "launch exec;  ls");
    means("run --dry-run=json img", "launch run --dry-run=json; img");
    means("run --dry-run json img", "launch run --dry-run; json img");
    means("test -c img a", "launch test --contain; img a");
}

static void test_spellings(void)
{
    means("exec --user --wdir /w --workingdir /x --CONTAIN img",
          "launch exec --userns --workdir=/w --workdir=/x --containall; img");
    means("exec -S /a --scratchdir /b --scratch-dir /c img", "launch exec --scratch=/a --scratch=/b --scratch=/c; img");
    means("exec --pwd /p --cwd /q img", "launch exec --cwd=/p --cwd=/q; img");
    means("exec -c -C -H /h -i -p -u -W /w -w -e -f -n -o /o img",
          "launch exec --contain --containall --home=/h --ipc --pid --userns --workdir=/w --writable --cleanenv --fakeroot "
          "--net --overlay=/o; img");
    means("shell -s /bin/zsh img -c x", "launch shell --shell=/bin/zsh; img -c x");
    means("exec --nohttps img", "launch exec --no-https; img");
}

static void test_globals(void)
{
    means("-dqsv -x --nocolor exec img", "launch exec --debug --quiet --silent --verbose --sh-debug --nocolor; img");
    means("-vvv --shdebug exec img", "launch exec --verbose --verbose --verbose --sh-debug; img");
    means("", "help;");
    means("-v", "help --verbose;");
    means("help", "help;");
    means("help exec", "help; exec");
    means("-h exec", "help --help; exec");
    means("--help", "help --help;");
    means("exec --help", "help --help; exec --help");
    means("exec -ch img", "help --contain --help; exec -ch img");
    means("exec help", "help; exec help");
    means("exec help ls", "launch exec; help ls");
    means("--version", "version --version;");
    means("--version exec img", "version --version; exec img");
    means("version", "bare version; version");
    means("version x", "other; version x");
    means("build --sandbox x y", "other; build --sandbox x y");
    means("-d frobnicate", "other --debug; frobnicate");
    means("instance start -c img name", "launch instance start --contain; img name");
    means("instance run -B /a --pid-file f img name x -c", "launch instance run --bind=/a --pid-file=f; img name x -c");
    means("instance.start -c img name", "launch instance start --contain; img name");
    means("instance start -h", "help --help; instance start -h");
    means("instance list -j", "other; instance list -j");
    means("instance.list", "other; instance.list");
    means("instance", "other; instance");
    means("instance.x start img", "other; instance.x start img");
}

static void test_refusals(void)
{
    refused("exec --contian img", "unknown option --contian for exec (did you mean --contain?)");
    refused("exec --writeable img", "unknown option --writeable for exec (did you mean --writable?)");
    refused("run --xyzzy=1 img", "unknown option --xyzzy for run (see: singularity help run)");
    refused("exec --=x img", "unknown option -- for exec (see: singularity help exec)");
    refused("exec -z img", "unknown option -z for exec (see: singularity help exec)");
    refused("exec -cz img", "unknown option -z for exec (see: singularity help exec)");
    refused("exec -bind /a img", "unknown option -bind for exec (did you mean --bind?)");
    refused("run -s sh img", "option -s goes before the verb (see: singularity help run)");
    refused("--vrsion", "unknown option --vrsion (did you mean --version?)");
    refused("exec --debug img", "option --debug goes before the verb (singularity [global options] VERB)");
    refused("--bind /a exec img", "option --bind goes after the verb (singularity VERB [options])");
    refused("-B /a exec img", "option -B goes after the verb (see: singularity help)");
    refused("exec --bind", "option --bind for exec needs a value (see: singularity help exec)");
    refused("exec -H", "option --home for exec needs a value (see: singularity help exec)");
    refused("exec --home= img", "option --home for exec needs a value (see: singularity help exec)");
    refused("exec -H '' img", "option --home for exec needs a value (see: singularity help exec)");
    refused("exec --pid=perhaps img", "option --pid: \"perhaps\" is neither true nor false");
    refused("exec --dmtcp-launch=2 img", "option --dmtcp-launch is not available here (checkpoints: programs save their own state)");
    refused("exec --oci img", "option --oci is not available here (an OCI runtime in place of this launcher)");
    refused("-c /x exec img",
            "option --config is not available here (another configuration file: its path is fixed when the program is built)");
}

static void test_limits(void)
{
    static char *words[OPTION_VALUES + 8];
    static char exec[] = "exec", flag[] = "-c", image[] = "img", dashes[(1 << 17) + 1] = "--";
    int count = 0;

    words[count++] = exec;
    while (count < OPTION_VALUES + 2)
        words[count++] = flag;
    words[count++] = image;
    words[count] = NULL;
    memset(&line, 0, sizeof line);
    error = (struct error){.number = 0};
    CHECK(!command_line_parse(words, &line, &error) && strcmp(error.text, "more than 4096 options") == 0,
          "more options than there is room for are refused");
    memset(dashes + 2, 'x', sizeof dashes - 3);
    words[1] = dashes;
    words[2] = NULL;
    memset(&line, 0, sizeof line);
    error = (struct error){.number = 0};
    CHECK(!command_line_parse(words, &line, &error) && strstr(error.text, "unknown option --xxx") != NULL,
          "an option of 128 KiB is unknown, in one line");
}

static void test_values(void)
{
    bool value = false;

    parse("-vvv exec --pid --pid=false -i=no --cwd /a --cwd /b img");
    CHECK(!options_flag(&line.options, OPTION_pid) && !options_flag(&line.options, OPTION_ipc) &&
              strcmp(options_text(&line.options, OPTION_cwd), "/b") == 0 && options_times(&line.options, OPTION_verbose) == 3,
          "of several uses the last one counts, and verbose adds up");
    CHECK(boolean_parse("T", &value) && value && boolean_parse("Yes", &value) && value && boolean_parse("OFF", &value) &&
              !value && !boolean_parse("2", &value) && !boolean_parse("", &value),
          "true and false have the family's spellings");
}

/* ---- the table itself ---- */

static bool lists_share(const char *a, const char *b)
{
    while (*a != '\0') {
        size_t length = strcspn(a, ",");
        if (name_listed(b, a, length, NULL))
            return true;
        a += length + (a[length] == ',');
    }
    return false;
}

static bool doubled(const struct option *a, const struct option *b)
{
    return lists_share(a->names + 2, b->names + 2) || (a->letter != 0 && a->letter == b->letter);
}

static void test_table(void)
{
    int clashes = 0, crowded = 0, shared = 0;

    for (int a = 0; a < OPTION_COUNT; a++) {
        const char *variables = option_table[a].variables;
        unsigned names = *variables != '\0';
        for (; *variables != '\0'; variables++)
            names += *variables == ',';
        crowded += names > VARIABLE_NAMES && option_table[a].kind != KIND_NONE_HERE;
        for (int b = a + 1; b < OPTION_COUNT; b++) {
            clashes += (option_table[a].scopes & option_table[b].scopes) != 0 && doubled(&option_table[a], &option_table[b]);
            shared += lists_share(option_table[a].variables, option_table[b].variables);
        }
    }
    CHECK(clashes == 0, "no two options of one verb share a name or a letter");
    CHECK(crowded == 0, "no option has more variables than are kept");
    CHECK(shared == 0, "no two options share a variable");
}

/* ---- variables ---- */

/* `environment` has its entries separated by ";". */
static const char *with_variables(const char *words, const char *environment)
{
    static struct option_variables variables;
    static char copy[TEXT];
    static char *entries[WORDS];
    size_t count = 0;

    memset(&variables, 0, sizeof variables);
    snprintf(copy, sizeof copy, "%s", environment);
    for (char *entry = strtok(copy, ";"); entry != NULL; entry = strtok(NULL, ";"))
        entries[count++] = entry;
    entries[count] = NULL;
    if (!parse(words))
        return error.text;
    option_variables_read(entries, &variables);
    if (!option_variables_apply(&variables, SCOPE_GLOBAL, &line.options, &error) ||
        !option_variables_apply(&variables, line.scope, &line.options, &error))
        return error.text;
    return described();
}

static void variables_mean(const char *words, const char *wanted, const char *environment)
{
    const char *got = with_variables(words, environment);

    CHECK(strcmp(got, wanted) == 0, "\"%s\" with %s means \"%s\"%s%s", words, environment, wanted,
          strcmp(got, wanted) == 0 ? "" : " and not ", strcmp(got, wanted) == 0 ? "" : got);
}

static void test_variables(void)
{
    message_begin(LEVEL_FATAL, false);
    variables_mean("exec img", "launch exec --contain=1; img", "SINGULARITY_CONTAIN=1");
    variables_mean("exec img", "launch exec --pid=yes; img", "SINGULARITY_UNSHARE_PID=yes");
    variables_mean("exec img", "launch exec --cwd=/x; img", "SINGULARITY_TARGET_PWD=/x");
    variables_mean("exec img", "launch exec --userns=1; img", "SINGULARITY_NOSUID=1");
    variables_mean("exec img", "launch exec; img", "SINGULARITY_CONTAIN=;SINGULARITY_HOME= ");
    variables_mean("exec img", "launch exec; img", 
                   "SINGULARITYENV_CONTAIN=1;CONTAIN=1;SINGULARITY_CONTAI=1;SINGULARITY_CONTAINX=1;SINGULARITY_");
    variables_mean("exec --home /cl img", "launch exec --home=/cl; img", "SINGULARITY_HOME=/v");
    variables_mean("exec --contain=false img", "launch exec --contain=false; img", "SINGULARITY_CONTAIN=1");
    variables_mean("exec -B /cl img", "launch exec --bind=/cl --bind=/a --bind=/b; img",
                   "SINGULARITY_BINDPATH=/b;SINGULARITY_BIND=/a");
    variables_mean("exec --mount x img", "launch exec --mount=x --mount=y; img", "APPTAINER_MOUNT=y");
    variables_mean("exec img", "launch exec --home=/a; img", "SINGULARITY_HOME=/s;APPTAINER_HOME=/a");
    variables_mean("exec img", "launch exec --scratch=/a; img", "SINGULARITY_SCRATCHDIR=/b;SINGULARITY_SCRATCH=/a");
    variables_mean("run img", "launch run; img", "SINGULARITY_SHELL=/bin/zsh");
    variables_mean("shell img", "launch shell --shell=/bin/zsh; img", "SINGULARITY_SHELL=/bin/zsh");
    variables_mean("exec img", "launch exec SINGULARITY_IMAGE=/i; img", "SINGULARITY_IMAGE=/i");
    variables_mean("exec img", "launch exec; img", "APPTAINER_IMAGE=/i");
    variables_mean("exec img", "variable SINGULARITY_CONTAIN: \"perhaps\" is neither true nor false",
                   "SINGULARITY_CONTAIN=perhaps");
    variables_mean("exec img", "launch exec --debug=1; img", "APPTAINER_DEBUG=1");
}

static const char *nearest(const char *word, const char *list)
{
    static char text[64];
    struct suggestion suggestion = {.word = word, .length = strlen(word)};

    suggest_from_list(&suggestion, list);
    text[0] = '\0';
    append(text, suggestion.found_length > 0 ? suggestion.found : "", suggestion.found_length);
    return text;
}

static void test_suggestions(void)
{
    CHECK(strcmp(nearest("bnid", "bind,binds,home"), "bind") == 0, "two swapped letters are one mistake");
    CHECK(strcmp(nearest("no_home", "no-home,home"), "no-home") == 0, "an underscore stands for a hyphen");
    CHECK(strcmp(nearest("xyzzy", "bind,home"), "") == 0, "nothing is suggested for a word that is near to none");
    CHECK(strcmp(nearest("", "a,b"), "") == 0, "nothing is suggested for no word");
}

int main(void)
{
    test_grammar();
    test_spellings();
    test_globals();
    test_refusals();
    test_limits();
    test_values();
    test_table();
    test_variables();
    test_suggestions();
    return checks_end();
}
